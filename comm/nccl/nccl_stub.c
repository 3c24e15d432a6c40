/* Stands in for NCCL in a build without CUDA or NCCL. */
#include "base/log.h"
#include "comm/comm.h"

static dpr_status_t refuse(void)
{
    return dpr_fail(DPR_ERR_UNSUPPORTED,
                    "this build has no NCCL; use --comm mpi, or build where the "
                    "CUDA Toolkit and NCCL are installed");
}

dpr_status_t dpr_comm_nccl_create(dpr_comm_t *bootstrap, int ctas, dpr_comm_t **comm)
{
    (void)bootstrap;
    (void)ctas;
    (void)comm;
    return refuse();
}

void dpr_comm_nccl_record_environment(void)
{
}

dpr_status_t dpr_comm_nccl_check_record(const dpr_comm_t *comm)
{
    (void)comm;
    return refuse();
}
