/*
 * Status codes: what every function that can fail returns.
 *
 * One X-macro gives the enum, the name and the text. Whoever decides first that something is an
 * error logs it with dpr_fail() (base/log.h); callers only propagate the code with DPR_TRY.
 */
#ifndef DPR_BASE_STATUS_H
#define DPR_BASE_STATUS_H

#define DPR_STATUS_MAP(X)                                                                          \
    X(OK, 0, "success")                                                                            \
    X(ERR_INVALID, -1, "invalid argument")                                                         \
    X(ERR_PARSE, -2, "malformed text")                                                             \
    X(ERR_IO, -3, "cannot read or write a file")                                                   \
    X(ERR_DATA, -4, "a file does not hold what was expected")                                      \
    X(ERR_PROGRAM, -5, "the program is not a valid schedule")                                      \
    X(ERR_DEADLOCK, -6, "the program would deadlock")                                              \
    X(ERR_MEMORY, -7, "not enough memory")                                                         \
    X(ERR_UNSUPPORTED, -8, "not supported by this build or device")                                \
    X(ERR_MISMATCH, -9, "results or ranks disagree")                                               \
    X(ERR_DEVICE, -10, "the device failed")                                                        \
    X(ERR_COMM, -11, "communication failed")                                                       \
    X(ERR_SYSTEM, -12, "the operating system refused")

typedef enum dpr_status {
#define X(name, value, text) DPR_##name = value,
    DPR_STATUS_MAP(X)
#undef X
} dpr_status_t;

/* Name ("DPR_ERR_PARSE") and text ("malformed text") of a status; never NULL. */
const char *dpr_status_name(dpr_status_t status);
const char *dpr_status_text(dpr_status_t status);

/* Returns the status of `expr` from the calling function unless it is DPR_OK. */
#define DPR_TRY(expr)                                                                              \
    do {                                                                                           \
        const dpr_status_t dpr_try_status_ = (expr);                                               \
        if (dpr_try_status_ != DPR_OK) {                                                           \
            return dpr_try_status_;                                                                \
        }                                                                                          \
    } while (0)

/* Stores the status of `expr` in the local variable `status` and jumps to `label` on failure. */
#define DPR_TRY_GOTO(expr, label)                                                                  \
    do {                                                                                           \
        status = (expr);                                                                           \
        if (status != DPR_OK) {                                                                    \
            goto label;                                                                            \
        }                                                                                          \
    } while (0)

#endif
