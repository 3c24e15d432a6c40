/* The conformance suite's harness. */
#include "comm_testing.h"

#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "base/log.h"
#include "base/random.h"

enum { RANKS_MAX = 64 };

static struct {
    bool is_mpi;
    int size;
    dpr_comm_t *mpi;
    atomic_bool errors_expected;
    atomic_int errors;
} suite;

static void sink(void *user, dpr_log_level_t level, const char *message)
{
    (void)user;
    (void)level;
    if (atomic_load(&suite.errors_expected)) {
        atomic_fetch_add(&suite.errors, 1);
    } else {
        fprintf(stderr, "%s\n", message);
    }
}

void expect_errors(bool expected)
{
    atomic_store(&suite.errors_expected, expected);
}

int errors_logged(void)
{
    return atomic_load(&suite.errors);
}

dpr_status_t suite_begin(const char *backend, int size)
{
    dpr_log_set_sink(sink, NULL);
    suite.is_mpi = strcmp(backend, "mpi") == 0;
    suite.size = size;
    if (suite.is_mpi) {
        DPR_TRY(dpr_comm_mpi_create(&suite.mpi));
        suite.size = dpr_comm_size(suite.mpi);
        if (dpr_comm_rank(suite.mpi) > 0 && freopen("/dev/null", "w", stdout) == NULL) {
            return DPR_ERR_IO; /* one report of passes is enough; failures go to stderr */
        }
    }
    return size <= RANKS_MAX ? DPR_OK : DPR_ERR_INVALID;
}

/*
 * Leaves a channel and a group open, which destroying must close, and on rank 1 a receive under way
 * that nobody will serve, which must end with an error; returns the number of failures on this
 * rank.
 */
static int leave_mpi(rank_test_t *test)
{
    static unsigned char buffer[64];
    const int first = 0;
    dpr_stream_t *stream = make_stream(test);
    const bool waits = suite.size > 1 && test->rank == 1;
    (void)make_group(test, &first, 1);
    if (suite.size > 1) {
        dpr_comm_channel_t *channel = make_channel(test, 0, 1, sizeof buffer);
        CHECK(test,
              !waits || dpr_channel_recv(channel, buffer, sizeof buffer, 0.0, stream) == DPR_OK);
        sleep_ms(20);
    }
    dpr_comm_destroy(suite.mpi);
    CHECK(test, dpr_stream_synchronize(stream) == (waits ? DPR_ERR_COMM : DPR_OK));
    dpr_stream_destroy(stream);
    return test->failures;
}

int suite_end(void)
{
    const dpr_host_device_options_t options = {.clock = DPR_CLOCK_WALL};
    rank_test_t test = {.comm = suite.mpi, .size = suite.size};
    if (!suite.is_mpi) {
        return 0;
    }
    if (dpr_host_device_create(&options, &test.device) != DPR_OK) {
        return 1;
    }
    test.rank = dpr_comm_rank(suite.mpi);
    dpr_comm_set_device(suite.mpi, test.device);
    const int failures = leave_mpi(&test);
    dpr_device_destroy(test.device);
    return failures;
}

int suite_size(void)
{
    return suite.size;
}

bool suite_is_mpi(void)
{
    return suite.is_mpi;
}

typedef struct rank_job {
    rank_test_t test;
    scenario_fn_t scenario;
    dpr_host_device_options_t options;
} rank_job_t;

static void *run_rank(void *argument)
{
    rank_job_t *job = argument;
    rank_test_t *test = &job->test;
    test->rank = dpr_comm_rank(test->comm);
    test->size = dpr_comm_size(test->comm);
    if (dpr_host_device_create(&job->options, &test->device) != DPR_OK) {
        fprintf(stderr, "rank %d has no device\n", test->rank);
        exit(1);
    }
    dpr_comm_set_device(test->comm, test->device);
    job->scenario(test);
    return NULL;
}

static int run_mpi(rank_job_t job)
{
    int failures[RANKS_MAX];
    int total = 0;
    job.test.comm = suite.mpi;
    (void)run_rank(&job);
    if (dpr_comm_allgather(suite.mpi, &job.test.failures, sizeof(int), failures) != DPR_OK) {
        return 1;
    }
    for (int rank = 0; rank < suite.size; rank++) {
        total += failures[rank];
    }
    dpr_device_destroy(job.test.device);
    return total;
}

static int run_local(rank_job_t job)
{
    pthread_t threads[RANKS_MAX];
    rank_job_t jobs[RANKS_MAX];
    dpr_comm_t *comms[RANKS_MAX];
    int total = 0;
    if (dpr_comm_local_create(suite.size, comms) != DPR_OK) {
        return 1;
    }
    for (int rank = 0; rank < suite.size; rank++) {
        jobs[rank] = job;
        jobs[rank].test.comm = comms[rank];
        if (pthread_create(&threads[rank], NULL, run_rank, &jobs[rank]) != 0) {
            exit(1);
        }
    }
    for (int rank = 0; rank < suite.size; rank++) {
        pthread_join(threads[rank], NULL);
        total += jobs[rank].test.failures;
    }
    for (int rank = 0; rank < suite.size; rank++) {
        dpr_comm_destroy(comms[rank]);
    }
    for (int rank = 0; rank < suite.size; rank++) {
        dpr_device_destroy(jobs[rank].test.device);
    }
    return total;
}

int suite_run(scenario_fn_t scenario, dpr_clock_t clock, uint64_t chaos_seed, uint64_t seed)
{
    const rank_job_t job = {.test = {.is_mpi = suite.is_mpi, .seed = seed},
                            .scenario = scenario,
                            .options = {.clock = clock, .chaos_seed = chaos_seed}};
    return suite.is_mpi ? run_mpi(job) : run_local(job);
}

void check_condition(rank_test_t *test, bool holds, const char *text, const char *file, int line)
{
    if (!holds) {
        test->failures++;
        fprintf(stderr, "%s:%d: rank %d of %d: not so: %s\n", file, line, test->rank, test->size,
                text);
    }
}

dpr_stream_t *make_stream(rank_test_t *test)
{
    dpr_stream_t *stream = NULL;
    CHECK(test, dpr_stream_create(test->device, "test", 0, &stream) == DPR_OK);
    return stream;
}

dpr_event_t *make_event(rank_test_t *test)
{
    dpr_event_t *event = NULL;
    CHECK(test, dpr_event_create(test->device, &event) == DPR_OK);
    return event;
}

dpr_comm_channel_t *make_channel(rank_test_t *test, int source, int destination, size_t max_bytes)
{
    dpr_comm_channel_t *channel = NULL;
    CHECK(test, dpr_channel_open(test->comm, source, destination, max_bytes, &channel) == DPR_OK);
    CHECK(test, (channel != NULL) == (test->rank == source || test->rank == destination));
    return channel;
}

dpr_comm_group_t *make_group(rank_test_t *test, const int *ranks, int count)
{
    dpr_comm_group_t *group = NULL;
    CHECK(test, dpr_group_open(test->comm, ranks, count, &group) == DPR_OK);
    return group;
}

void *make_memory(rank_test_t *test, size_t bytes)
{
    void *memory = NULL;
    CHECK(test, dpr_device_alloc(test->device, DPR_MEMORY_DEVICE, bytes, &memory) == DPR_OK);
    return memory;
}

void free_memory(rank_test_t *test, void *memory)
{
    dpr_device_free(test->device, DPR_MEMORY_DEVICE, memory);
}

void meet(rank_test_t *test)
{
    CHECK(test, dpr_comm_barrier(test->comm) == DPR_OK);
}

void sleep_ms(long ms)
{
    const struct timespec pause = {.tv_sec = ms / 1000, .tv_nsec = ms % 1000 * 1000000};
    nanosleep(&pause, NULL);
}

static unsigned char message_byte(message_t message, size_t index)
{
    const uint64_t channel = (uint64_t)message.source << 32 | (uint64_t)message.destination << 16 |
                             (uint64_t)message.kind;
    return (unsigned char)(dpr_random_bits((uint64_t)message.number, channel, index / 64) >>
                           index % 57);
}

void fill_message(unsigned char *buffer, size_t bytes, message_t message)
{
    for (size_t i = 0; i < bytes; i++) {
        buffer[i] = message_byte(message, i);
    }
}

bool holds_message(const unsigned char *buffer, size_t bytes, message_t message)
{
    for (size_t i = 0; i < bytes; i++) {
        if (buffer[i] != message_byte(message, i)) {
            return false;
        }
    }
    return true;
}

static void hold(void *argument, dpr_host_op_t *operation, double now_sec)
{
    (void)now_sec;
    atomic_store(&((holder_t *)argument)->operation, operation);
}

void hold_stream(rank_test_t *test, dpr_stream_t *stream, holder_t *holder)
{
    atomic_store(&holder->operation, NULL);
    CHECK(test, dpr_stream_host_op(stream, hold, holder) == DPR_OK);
}

void release_stream(holder_t *holder)
{
    dpr_host_op_t *operation;
    while ((operation = atomic_load(&holder->operation)) == NULL) {
        sleep_ms(1);
    }
    dpr_host_op_complete(operation, DPR_OK, 0.0);
}
