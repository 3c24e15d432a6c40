/*
 * The communication seam, user's side: transfers between two ranks, collectives over groups, and a
 * few blocking calls for set-up and reports.
 *
 * Contract
 *
 * Streams. send, recv and allreduce are enqueued on a device stream and take place in its order;
 * the stream goes on when the operation is complete (a send: when its buffer may be reused; a
 * receive: when the data is there). They allocate nothing; enqueuing waits where a channel or group
 * has about a thousand operations ahead of its stream.
 *
 * Channels. FIFO from one rank to one other. Strictly rendezvous: a send does not complete before
 * its receive has been reached on the other side's stream, whatever the message's size. (NCCL's own
 * sends may end earlier, when a message fits the transport's buffer; what is right and free of
 * deadlock by the strict rule is so by the looser one.) One channel's or group's operations are
 * enqueued on one stream at either end; on another only when those on the former are over.
 *
 * Collective creation. Every rank of the communicator opens the same channels and groups in the
 * same order (ranks that are not part of one pass the same arguments and get NULL); opening is a
 * blocking call. Where the ranks' arguments differ, every rank gets DPR_ERR_MISMATCH, and where one
 * rank fails, all do. Channels and groups are used by those who are part of them, in one order per
 * channel or group; nothing is implied between different ones.
 *
 * Clocks. Under a virtual device clock a transfer starts at max(sender's, receiver's stream time)
 * and both streams go on at start + cost_sec, which both sides pass alike; an allreduce starts at
 * the latest of its members' times. Under the wall clock cost_sec is ignored.
 *
 * Memory. On a device whose memory the CPU cannot reach, mpi and local move messages by way of
 * pinned memory (staging.h), one buffer of max_bytes per channel end, allocated at opening.
 *
 * Threads. Stream operations come from the thread that enqueues on that stream; the blocking calls
 * from one thread at a time. At most one thread of a rank ever touches the library underneath.
 *
 * Errors. Set-up reports its own. A transfer that fails marks its stream (device.h) and is logged.
 * Sides that do not pass the same size, type or (under a virtual clock) cost all fail with
 * DPR_ERR_MISMATCH, with nothing promised about their buffers. Other ranks do not learn of an error
 * on this one and wait for it: who sees one that cannot be mended calls dpr_comm_abort.
 */
#ifndef DPR_COMM_COMM_H
#define DPR_COMM_COMM_H

#include "device/device.h"

typedef struct dpr_comm dpr_comm_t;
typedef struct dpr_comm_channel dpr_comm_channel_t;
typedef struct dpr_comm_group dpr_comm_group_t;

typedef enum dpr_element {
    DPR_ELEMENT_FLOAT,
    DPR_ELEMENT_DOUBLE,
} dpr_element_t;

/*
 * Closes what is still open and leaves; collective. Streams that use the communicator should be
 * idle and channels and groups closed before: an operation still under way ends with DPR_ERR_COMM
 * on its stream. NULL is allowed.
 */
void dpr_comm_destroy(dpr_comm_t *comm);
const char *dpr_comm_kind(const dpr_comm_t *comm); /* "mpi", "local", "nccl" */
int dpr_comm_rank(const dpr_comm_t *comm);
int dpr_comm_size(const dpr_comm_t *comm);
/* Ranks that share this rank's node, and this rank's position among them. */
int dpr_comm_node_size(const dpr_comm_t *comm);
int dpr_comm_node_rank(const dpr_comm_t *comm);

/*
 * The device on whose streams the operations will run: set before the first channel or group, and
 * outliving them. Another one only while none is open.
 */
void dpr_comm_set_device(dpr_comm_t *comm, dpr_device_t *device);

/*
 * Opens a channel; collective. `max_bytes` bounds one message. *channel is NULL on ranks that are
 * neither end. Errors: DPR_ERR_INVALID (source equals destination, out of range, no device),
 * DPR_ERR_MISMATCH, DPR_ERR_MEMORY, DPR_ERR_COMM.
 */
dpr_status_t dpr_channel_open(dpr_comm_t *comm, int source, int destination, size_t max_bytes,
                              dpr_comm_channel_t **channel);
/* Collective among the two ends only; no operation may be pending. NULL is allowed. */
void dpr_channel_close(dpr_comm_channel_t *channel);

/* `bytes` and `cost_sec` must be the same on both sides. Errors: DPR_ERR_INVALID (too long, or this
 * rank is the other end). */
dpr_status_t dpr_channel_send(dpr_comm_channel_t *channel, const void *buffer, size_t bytes,
                              double cost_sec, dpr_stream_t *stream);
dpr_status_t dpr_channel_recv(dpr_comm_channel_t *channel, void *buffer, size_t bytes,
                              double cost_sec, dpr_stream_t *stream);

/* Opens a group of the `count` ranks listed (ascending); collective. *group is NULL on others.
 * Errors as for a channel. */
dpr_status_t dpr_group_open(dpr_comm_t *comm, const int *ranks, int count,
                            dpr_comm_group_t **group);
/* Collective among the members only; no operation may be pending. NULL is allowed. */
void dpr_group_close(dpr_comm_group_t *group);

/*
 * Sums `count` elements in place over the group. Every member ends with the same bits, and with the
 * same bits each time it is run on the same inputs.
 */
dpr_status_t dpr_group_allreduce_sum(dpr_comm_group_t *group, void *buffer, size_t count,
                                     dpr_element_t element, double cost_sec, dpr_stream_t *stream);

/* Blocking calls on host memory, collective over all ranks, for set-up and reports. While a rank
 * waits in one it burns no core. */
dpr_status_t dpr_comm_barrier(dpr_comm_t *comm);
/* out holds size * bytes, rank by rank. */
dpr_status_t dpr_comm_allgather(dpr_comm_t *comm, const void *in, size_t bytes, void *out);
/* Rank `root` receives every rank's bytes one after another; bytes[r] is known to all. */
dpr_status_t dpr_comm_gather(dpr_comm_t *comm, int root, const void *in, const size_t *bytes,
                             void *out);

/*
 * Agrees on a status: returns DPR_OK on every rank if all passed DPR_OK. Otherwise every rank
 * returns the status of the lowest rank that did not, and *culprit (may be NULL) is that rank.
 * Nothing is logged.
 */
dpr_status_t dpr_comm_agree(dpr_comm_t *comm, dpr_status_t status, int *culprit);

/*
 * Measures the link from this rank to `peer` by `rounds` exchanges of `bytes` and of 0 bytes;
 * called by both, the lower rank leading, while nothing else runs on either. Both get the round
 * trip of one exchange, halved, as the smallest seen: small_sec for an empty message, large_sec for
 * `bytes`. offset_sec is the peer's wall clock minus this rank's (device.h, wall_sec), taken from
 * the exchange with the smallest round trip, uncertain by up to small_sec.
 */
typedef struct dpr_link_measure {
    double small_sec;
    double large_sec;
    double offset_sec;
} dpr_link_measure_t;
dpr_status_t dpr_comm_measure_link(dpr_comm_t *comm, int peer, size_t bytes, int rounds,
                                   dpr_link_measure_t *measure);

/*
 * A fault that the library underneath found by itself since (nccl: ncclCommGetAsyncError of every
 * communicator), logged with the channel it concerns; DPR_OK where there is none or the backend
 * knows of none before its operations end. Any thread, at any time but during opening and closing.
 */
dpr_status_t dpr_comm_check(dpr_comm_t *comm);

/*
 * Makes operations under way end, with DPR_ERR_COMM on their streams, where the backend can (nccl:
 * ncclCommAbort); after it, only dpr_comm_abort and dpr_comm_destroy are allowed. Any thread.
 */
void dpr_comm_interrupt(dpr_comm_t *comm);

/*
 * What `channels` channel ends and `groups` groups of more than one rank take of this rank's device
 * behind its back; all 0 for backends that take nothing.
 */
typedef struct dpr_comm_needs {
    size_t device_bytes; /* nccl: an estimate of its buffers (docs/nccl.md) */
    int multiprocessors; /* that the channels' operations may hold while kernels run */
} dpr_comm_needs_t;
void dpr_comm_needs(const dpr_comm_t *comm, int channels, int groups, dpr_comm_needs_t *needs);

/* What carries the messages, for a person: "Open MPI 4.1.4", "NCCL 2.28.3 over ...". */
void dpr_comm_describe(const dpr_comm_t *comm, char *text, size_t size);

/* Ends the whole job at once with `exit_code` (mpi: MPI_Abort). Does not return. */
_Noreturn void dpr_comm_abort(dpr_comm_t *comm, int exit_code);

/*
 * Backends.
 *
 * mpi: starts the one thread that touches MPI, which initialises it; dpr_comm_destroy finalises it.
 * Without a launcher it is the only rank. `spin`: that thread polls without a pause while anything
 * is pending (only where cores are free); otherwise it sleeps until a rank of its node sends
 * something, and between polls, longer the longer nothing comes, for the rest. Off at first; may be
 * changed at any time with dpr_comm_mpi_set_spin, which does nothing for other backends. Only once
 * per process. Errors: DPR_ERR_COMM, DPR_ERR_SYSTEM, DPR_ERR_MEMORY.
 */
dpr_status_t dpr_comm_mpi_create(dpr_comm_t **comm);
void dpr_comm_mpi_set_spin(dpr_comm_t *comm, bool spin);

/*
 * nccl: channels and groups on NCCL, each with a communicator of its own; everything else goes to
 * `bootstrap` (mpi, or local in tests), which is borrowed and outlives it, and which also carries
 * the ids. `ctas` bounds the CTAs of each communicator (from 1 to 64; 0: DPR_COMM_NCCL_CTAS), so
 * that transfers leave the multiprocessors to compute. The device must be a cuda device, the same
 * one for all openings. Refused at opening, since it may hang: two ranks on one GPU, and what the
 * GPU has no room for, CTAs for more than half of its multiprocessors (docs/nccl.md). What differs
 * from the contract above, because NCCL is so: sides that pass different sizes or types are not
 * told, but wait for ever or get what they did not ask for; a sum has the same bits on every
 * member, but in an order of NCCL's own. Members of overlapping groups enqueue those groups'
 * all-reduces in one order. measure_link: the offset is the bootstrap's; the seconds are NCCL's
 * where the two ranks have an open channel and bytes > 0, the bootstrap's otherwise. What a closed
 * channel holds on the GPU goes when the communicator is destroyed. Errors: DPR_ERR_UNSUPPORTED
 * where this build has no NCCL, or one before 2.22; DPR_ERR_MEMORY.
 */
enum { DPR_COMM_NCCL_CTAS = 4 };
dpr_status_t dpr_comm_nccl_create(dpr_comm_t *bootstrap, int ctas, dpr_comm_t **comm);

/* For a run whose steps are recorded (device.h): sets, where the user has not, the environment
 * variables that NCCL then needs (nccl_record.c). Called by main, before MPI and threads. */
void dpr_comm_nccl_record_environment(void);
/* Whether the operations of `comm`, a nccl one, can be part of a recording without a deadlock.
 * Errors, with the way out: DPR_ERR_UNSUPPORTED (NCCL before 2.26, or told not to keep them in
 * order). */
dpr_status_t dpr_comm_nccl_check_record(const dpr_comm_t *comm);

/*
 * local: `size` ranks in one process, comms[r] for the thread that plays rank r. For tests and
 * tools: the same contract without a launcher. Destroying the last one releases what they share.
 */
dpr_status_t dpr_comm_local_create(int size, dpr_comm_t **comms);

#endif
