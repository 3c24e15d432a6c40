/* What tests may turn in the MPI backend; not part of the seam. */
#ifndef DPR_COMM_MPI_MPI_TESTING_H
#define DPR_COMM_MPI_MPI_TESTING_H

#include "comm/comm.h"

/* Transfers longer than this many bytes take several messages (else 1 GiB). The same on every rank,
 * and while nothing is under way. */
void dpr_comm_mpi_set_chunk_bytes(dpr_comm_t *comm, size_t bytes);

#endif
