/* For tests only. */
#ifndef DPR_COMM_NCCL_NCCL_TESTING_H
#define DPR_COMM_NCCL_NCCL_TESTING_H

#include "comm/comm.h"

/* How long a nccl communicator waits for a rank that does not come to an opening or a measurement.
 */
void dpr_comm_nccl_set_patience(dpr_comm_t *comm, double sec);

/* The same for NCCL to abort. */
void dpr_comm_nccl_set_abort_patience(dpr_comm_t *comm, double sec);

#endif
