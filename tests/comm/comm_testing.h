/*
 * The conformance suite's harness: a scenario is a function that every rank runs, whatever the
 * backend.
 *
 *      comm_contract local N     N threads of this process are the ranks
 *      comm_contract mpi         this process is one rank of those that mpirun started
 *      comm_contract nccl N      N threads, each with a GPU of its own, over NCCL
 *
 * "local+cuda" and "mpi+cuda": on cuda devices, several ranks to a GPU. Over the stand-in every
 * scenario must leave no misuse of CUDA and nothing alive.
 *
 * Checks count failures and go on, so that a failing rank still takes part in what follows and the
 * others do not hang; afterwards all ranks agree on whether the scenario passed.
 */
#ifndef DPR_TESTS_COMM_COMM_TESTING_H
#define DPR_TESTS_COMM_COMM_TESTING_H

#include <stdatomic.h>

#include "comm/comm.h"

typedef struct rank_test {
    dpr_comm_t *comm;
    dpr_device_t *device;
    int rank;
    int size;
    bool is_mpi;
    bool is_nccl;
    uint64_t seed; /* the same on every rank */
    int failures;
} rank_test_t;

typedef void (*scenario_fn_t)(rank_test_t *test);

/* One of the backends above, with `size` ranks. Errors: DPR_ERR_UNSUPPORTED where there are too few
 * GPUs. */
dpr_status_t suite_begin(const char *backend, int size);
/* Destroys the communicator with things left open; returns the failures of this rank. */
int suite_end(void);
int suite_size(void);
bool suite_is_mpi(void);
bool suite_is_nccl(void);
bool suite_is_on_cuda(void);
/* From here on a rank may be left behind in a blocking call of NCCL whose peers do not come: the
 * stand-in's giving such a call up is awaited at the end of each run, and is no misuse. */
void suite_let_ranks_be_left_behind(void);
/* Whether allocations of the stand-in would be counted with our own. */
bool suite_is_on_standin(void);

/*
 * What GPUs and NCCL need of a scenario (docs/nccl.md). Elsewhere nothing of it holds, and the
 * seam's whole contract is tested.
 *
 * one order: operations of all channels and groups, with nccl or on GPUs, are enqueued in one order
 * that is the same on all ranks.
 */
bool suite_needs_one_order(void);
/* nccl on GPUs: a send that fits a buffer of NCCL's ends before its receive is reached. */
bool suite_sends_end_early(void);
/* How many streams a rank may use and how many messages it may enqueue ahead: `wanted`, or fewer on
 * GPUs, so that every stream of the process has a work queue to itself, and no launch waits for
 * room in one while it holds what another rank's thread needs to enqueue. */
int suite_most_streams(int wanted);
int suite_most_ahead(int wanted);

/* Runs the scenario on every rank, each with a device of its own; returns the failures on all
 * ranks. */
int suite_run(scenario_fn_t scenario, dpr_clock_t clock, uint64_t chaos_seed, uint64_t seed);

#define CHECK(test, condition) check_condition((test), (condition), #condition, __FILE__, __LINE__)
void check_condition(rank_test_t *test, bool holds, const char *text, const char *file, int line);

/* Messages logged while errors are expected are counted, not shown. */
void expect_errors(bool expected);
int errors_logged(void);

/* Calls of malloc and the like by anything but shared libraries, so far
 * (comm_testing_allocations.c). */
unsigned long allocations_so_far(void);

/* Short hands that count a failure where the library reports one. */
dpr_stream_t *make_stream(rank_test_t *test);
dpr_event_t *make_event(rank_test_t *test);
dpr_comm_channel_t *make_channel(rank_test_t *test, int source, int destination, size_t max_bytes);
dpr_comm_group_t *make_group(rank_test_t *test, const int *ranks, int count);
/* For transfers, and for the test itself: on a cuda device pinned memory. */
void *make_memory(rank_test_t *test, size_t bytes);
void free_memory(rank_test_t *test, void *memory);
void meet(rank_test_t *test); /* barrier */
/* A barrier on GPUs, nothing elsewhere: behind setting up, and behind the last enqueuing.
 * Allocating and freeing, also of a stream, may wait for all that runs on the GPUs, and so for what
 * another rank, a thread of this process, has yet to enqueue. */
void settle(rank_test_t *test);
void sleep_ms(long ms);

/* The content of message `number` on the channel from `source` to `destination`, kind `kind`. */
typedef struct message {
    int source;
    int destination;
    int kind;
    int number;
} message_t;
void fill_message(unsigned char *buffer, size_t bytes, message_t message);
bool holds_message(const unsigned char *buffer, size_t bytes, message_t message);

/* A host operation that holds its stream until released. */
typedef struct holder {
    _Atomic(dpr_host_op_t *) operation;
} holder_t;
void hold_stream(rank_test_t *test, dpr_stream_t *stream, holder_t *holder);
void release_stream(holder_t *holder);

/* The scenarios. */
void scenario_fifo(rank_test_t *test);
void scenario_sizes(rank_test_t *test);
void scenario_chunks(rank_test_t *test);
void scenario_send_waits_for_receive(rank_test_t *test);
void scenario_receive_waits_for_send(rank_test_t *test);
void scenario_all_directions(rank_test_t *test);
void scenario_more_than_the_ring(rank_test_t *test);
void scenario_size_mismatch(rank_test_t *test);
void scenario_failed_stream_does_not_hang(rank_test_t *test);
void scenario_wrong_use(rank_test_t *test);
void scenario_left_open(rank_test_t *test);
void scenario_no_allocation(rank_test_t *test);
void scenario_random_program(rank_test_t *test);
void scenario_allreduce_bits(rank_test_t *test);
void scenario_allreduce_long(rank_test_t *test);
void scenario_groups_overlap(rank_test_t *test);
void scenario_group_of_one(rank_test_t *test);
void scenario_allreduce_mismatch(rank_test_t *test);
void scenario_blocking_calls(rank_test_t *test);
void scenario_calls_beside_transfers(rank_test_t *test);
void scenario_agree(rank_test_t *test);
void scenario_measure_link(rank_test_t *test);
void scenario_opening_disagrees(rank_test_t *test);

#endif
