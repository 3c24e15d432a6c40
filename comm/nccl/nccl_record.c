/*
 * What NCCL needs where a step is recorded as a CUDA graph.
 *
 * A graph keeps edges and no order of enqueuing, and CUDA may start independent nodes in any order,
 * on every rank in another. NCCL then adds the order of capturing as edges, if told so
 * (docs/nccl.md, Recorded steps). It reads both variables once, at its first operation or
 * communicator.
 */
#include <stdlib.h>

#include "base/log.h"
#include "comm/nccl/nccl_impl.h"

enum { OLDEST_THAT_ORDERS = 22600 };

static const char order_variable[] = "NCCL_LAUNCH_ORDER_IMPLICIT";

void dpr_comm_nccl_record_environment(void)
{
    (void)setenv(order_variable, "1", 0);
    (void)setenv("NCCL_GRAPH_MIXING_SUPPORT", "0", 0);
}

dpr_status_t dpr_nccl_check_record(int version)
{
    const char *order = getenv(order_variable);
    if (version < OLDEST_THAT_ORDERS) {
        return dpr_fail(DPR_ERR_UNSUPPORTED,
                        "NCCL %d.%d is too old for --cuda-graph: 2.26 or later is needed, which "
                        "keeps the order of a recorded step's transfers; install it, or leave "
                        "--cuda-graph out",
                        version / 10000, version / 100 % 100);
    }
    if (order == NULL || strtol(order, NULL, 10) == 0) {
        return dpr_fail(DPR_ERR_UNSUPPORTED,
                        "--cuda-graph may deadlock with NCCL unless the environment has %s=1, and "
                        "it is %s; leave it to the program, or leave --cuda-graph out",
                        order_variable, order == NULL ? "not set" : order);
    }
    return DPR_OK;
}

dpr_status_t dpr_comm_nccl_check_record(const dpr_comm_t *comm)
{
    int version = 0;
    DPR_TRY(dpr_nccl_check(comm->rank, ncclGetVersion(&version), "ncclGetVersion", "this node"));
    return dpr_nccl_check_record(version);
}
