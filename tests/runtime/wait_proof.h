/*
 * Whether an order that a wait keeps holds without it, too: a path in the op graph from the wait's
 * source to its command that goes through other edges. How much is taken for granted of a transfer
 * depends on what carries it:
 *
 *     PROOF_SPLIT      S -> R            a send may leave before its receive has been reached
 *     PROOF_MEETING    S = R             it may not: one node, as in schedule/graph.h. NCCL does
 *                                        not promise it for short messages, the stand-in keeps it
 *     PROOF_STAGED     S -> X -> R       copy to pinned memory, the host's transfer, at which both
 *                                        sides meet, copy from pinned memory
 *
 * What has been received has left the sender's buffer, so a path from a send may go by way of its
 * receiver.
 */
#ifndef DPR_TESTS_RUNTIME_WAIT_PROOF_H
#define DPR_TESTS_RUNTIME_WAIT_PROOF_H

#include "runtime/executor.h"
#include "schedule/graph.h"

typedef enum proof_transfers { PROOF_SPLIT, PROOF_MEETING, PROOF_STAGED } proof_transfers_t;

/* For an edge's wait of a command of `rank`: whether its order holds without it. */
bool proof_wait_is_implied(const dpr_graph_t *graph, const dpr_executor_wait_t *wait, int rank,
                           proof_transfers_t transfers);

/*
 * For PROOF_STAGED, where the sender's stream is held until the host's transfer of `node` is over:
 * whether the channel's next message comes to the pinned buffer after that without it, too; true
 * where there is none.
 */
bool proof_send_hold_is_implied(const dpr_graph_t *graph, int32_t node);

#endif
