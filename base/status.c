/* Names and texts of the status codes. */
#include "base/status.h"

const char *dpr_status_name(dpr_status_t status)
{
    switch (status) {
#define X(name, value, text)                                                                       \
    case DPR_##name:                                                                               \
        return "DPR_" #name;
        DPR_STATUS_MAP(X)
#undef X
    }
    return "DPR_ERR_UNKNOWN";
}

const char *dpr_status_text(dpr_status_t status)
{
    switch (status) {
#define X(name, value, text)                                                                       \
    case DPR_##name:                                                                               \
        return text;
        DPR_STATUS_MAP(X)
#undef X
    }
    return "unknown status";
}
