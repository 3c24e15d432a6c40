/* Checks of a machine's numbers, and times from them. */
#include "models/hardware.h"

#include <math.h>
#include <string.h>

#include "base/log.h"

static const char *const precision_names[DPR_PRECISIONS] = {"fp32", "tf32", "bf16"};

const char *dpr_precision_name(dpr_precision_t precision)
{
    return precision_names[precision];
}

dpr_status_t dpr_precision_parse(const char *text, dpr_precision_t *precision)
{
    for (int i = 0; i < DPR_PRECISIONS; i++) {
        if (strcmp(precision_names[i], text) == 0) {
            *precision = (dpr_precision_t)i;
            return DPR_OK;
        }
    }
    return dpr_fail(DPR_ERR_INVALID, "precision '%s': expected fp32, tf32 or bf16", text);
}

typedef struct field {
    const char *name;
    double value;
    double least;
    double most;
} field_t;

#define RATE_MAX     1e21
#define MEMORY_MAX   1e18
#define SECONDS_MAX  10.0
#define FRACTION_MIN 1e-6

static dpr_status_t check_field(const dpr_hardware_t *hardware, const field_t *field)
{
    /* written so that NAN fails */
    if (field->value >= field->least && field->value <= field->most) {
        return DPR_OK;
    }
    return dpr_fail(DPR_ERR_INVALID, "hardware '%s': %s is %g: expected %g to %g", hardware->name,
                    field->name, field->value, field->least, field->most);
}

static dpr_status_t check_peaks(const dpr_hardware_t *hardware)
{
    bool any = false;
    for (int i = 0; i < DPR_PRECISIONS; i++) {
        const double peak = hardware->peak_flops_per_sec[i];
        const field_t field = {precision_names[i], peak, 1.0, RATE_MAX};
        any |= peak != 0.0;
        if (peak != 0.0) {
            DPR_TRY(check_field(hardware, &field));
        }
    }
    return any ? DPR_OK
               : dpr_fail(DPR_ERR_INVALID,
                          "hardware '%s': no peak of any precision: expected fp32, tf32 or bf16",
                          hardware->name);
}

dpr_status_t dpr_hardware_check(const dpr_hardware_t *hardware)
{
    const field_t fields[] = {
        {"flops fraction", hardware->flops_fraction, FRACTION_MIN, 1.0},
        {"memory fraction", hardware->memory_fraction, FRACTION_MIN, 1.0},
        {"link fraction", hardware->link_fraction, FRACTION_MIN, 1.0},
        {"memory_bytes", hardware->memory_bytes, 1.0, MEMORY_MAX},
        {"memory bandwidth", hardware->memory_bandwidth_bytes_per_sec, 1.0, RATE_MAX},
        {"op_overhead_sec", hardware->op_overhead_sec, 0.0, SECONDS_MAX},
        {"devices_per_node", hardware->devices_per_node, 1.0, 4096.0},
        {"node_link latency", hardware->node_link.latency_sec, 0.0, SECONDS_MAX},
        {"node_link bandwidth", hardware->node_link.bandwidth_bytes_per_sec, 1.0, RATE_MAX},
        {"network_link latency", hardware->network_link.latency_sec, 0.0, SECONDS_MAX},
        {"network_link bandwidth", hardware->network_link.bandwidth_bytes_per_sec, 1.0, RATE_MAX},
    };
    DPR_TRY(check_peaks(hardware));
    for (size_t i = 0; i < sizeof fields / sizeof fields[0]; i++) {
        DPR_TRY(check_field(hardware, &fields[i]));
    }
    return DPR_OK;
}

dpr_status_t dpr_hardware_has(const dpr_hardware_t *hardware, dpr_precision_t precision)
{
    if (hardware->peak_flops_per_sec[precision] > 0.0) {
        return DPR_OK;
    }
    char names[64] = "";
    for (int i = 0; i < DPR_PRECISIONS; i++) {
        if (hardware->peak_flops_per_sec[i] > 0.0) {
            strcat(names, names[0] != '\0' ? ", " : "");
            strcat(names, precision_names[i]);
        }
    }
    return dpr_fail(DPR_ERR_UNSUPPORTED, "hardware '%s' has no peak for %s: expected one of %s",
                    hardware->name, precision_names[precision], names);
}

double dpr_hardware_work_sec(const dpr_hardware_t *hardware, dpr_precision_t precision,
                             double flops, double bytes)
{
    const double rate = hardware->peak_flops_per_sec[precision] * hardware->flops_fraction;
    const double bandwidth = hardware->memory_bandwidth_bytes_per_sec * hardware->memory_fraction;
    return fmax(flops / rate, bytes / bandwidth);
}

double dpr_hardware_transfer_sec(const dpr_hardware_t *hardware, const dpr_hardware_link_t *link,
                                 double bytes)
{
    return link->latency_sec + bytes / (link->bandwidth_bytes_per_sec * hardware->link_fraction);
}

const dpr_hardware_link_t *dpr_hardware_link_between(const dpr_hardware_t *hardware, int a, int b)
{
    const bool same_node = a / hardware->devices_per_node == b / hardware->devices_per_node;
    return same_node ? &hardware->node_link : &hardware->network_link;
}

double dpr_hardware_all_reduce_sec(const dpr_hardware_t *hardware, const dpr_hardware_link_t *link,
                                   int members, double bytes)
{
    const double messages = 2.0 * (members - 1);
    return members > 1 ? messages * dpr_hardware_transfer_sec(hardware, link, bytes / members)
                       : 0.0;
}
