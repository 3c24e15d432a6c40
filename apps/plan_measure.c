/* --hardware measure: describes this machine. */
#include <stdio.h>

#include "apps/plan_machine.h"
#include "base/log.h"
#include "runtime/hardware_measure.h"

dpr_status_t plan_measure(const char *path, dpr_hardware_t *hardware)
{
    DPR_TRY(dpr_hardware_measure(hardware));
    DPR_TRY(dpr_hardware_write(hardware, &dpr_hardware_measured_sources, path));
    dpr_log(DPR_LOG_INFO, "measured this machine: %.4g flop/s, %.4g bytes/s a core; written to %s",
            hardware->peak_flops_per_sec[DPR_PRECISION_FP32],
            hardware->memory_bandwidth_bytes_per_sec, path);
    return DPR_OK;
}
