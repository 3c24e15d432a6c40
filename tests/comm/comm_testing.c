/* The conformance suite's harness. */
#include "comm_testing.h"

#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "base/log.h"
#include "base/random.h"

#ifdef DPR_TEST_STANDIN
#include "standin.h"
#endif

enum {
    RANKS_MAX = 64,
    GPU_QUEUES = 32, /* CUDA_DEVICE_MAX_CONNECTIONS, as CMakeLists.txt sets it */
    GPU_AHEAD = 100, /* messages: up to 4 launches each; a stream takes about 1000 */
};

static struct {
    bool is_mpi;
    bool is_nccl;
    bool on_cuda;
    bool left_behind;
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

#ifdef DPR_TEST_STANDIN

static void cuda_begin(uint64_t seed)
{
    standin_reset(&(standin_options_t){
        .seed = seed, .deadlock_sec = suite.left_behind ? 1.0 : 20.0, .quiet = suite.left_behind});
}

/* Counts what CUDA would have complained of. */
static int cuda_end(void)
{
    char text[2048];
    int failures = 0;
    standin_drain();
    for (int i = 0; i < 5000 && suite.left_behind && standin_leaks(NULL, 0) > 0; i++) {
        sleep_ms(1);
    }
    if (standin_misuses() > standin_deadlocks() || (standin_misuses() > 0 && !suite.left_behind)) {
        fprintf(stderr, "misuse of CUDA: %s\n", standin_misuse_text(text, sizeof text));
        failures++;
    }
    if (standin_leaks(text, sizeof text) > 0) {
        fprintf(stderr, "left alive: %s\n", text);
        failures++;
    }
    return failures;
}

bool suite_is_on_standin(void)
{
    return true;
}

#else

static void cuda_begin(uint64_t seed)
{
    (void)seed;
}

static int cuda_end(void)
{
    return 0;
}

bool suite_is_on_standin(void)
{
    return false;
}

#endif

/* One GPU for each rank with NCCL, one for every two otherwise, as far as there are. */
static int gpu_of(int rank, int gpus)
{
    return suite.is_nccl ? rank : rank / 2 % gpus;
}

static dpr_status_t check_gpus(void)
{
    char reason[256];
    const int needed = !suite.on_cuda ? 0 : suite.is_nccl ? suite.size : 1;
    const int count = needed > 0 ? dpr_cuda_device_count(reason, sizeof reason) : 0;
    if (count < needed) {
        printf("skipped: %d GPUs, %d needed%s%s\n", count, needed, count == 0 ? "; " : "",
               count == 0 ? reason : "");
        return DPR_ERR_UNSUPPORTED;
    }
    return DPR_OK;
}

static dpr_status_t open_device(int rank, dpr_clock_t clock, uint64_t chaos_seed,
                                dpr_device_t **device)
{
    const dpr_host_device_options_t options = {.clock = clock, .chaos_seed = chaos_seed};
    char reason[256];
    return suite.on_cuda
               ? dpr_cuda_device_create(gpu_of(rank, dpr_cuda_device_count(reason, sizeof reason)),
                                        clock, device)
               : dpr_host_device_create(&options, device);
}

dpr_status_t suite_begin(const char *backend, int size)
{
    dpr_log_set_sink(sink, NULL);
    suite.is_mpi = strncmp(backend, "mpi", 3) == 0;
    suite.is_nccl = strcmp(backend, "nccl") == 0;
    suite.on_cuda = suite.is_nccl || strstr(backend, "+cuda") != NULL;
    suite.size = size;
    cuda_begin(0);
    DPR_TRY(check_gpus());
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
    enum { BYTES = 64 };
    unsigned char *buffer = make_memory(test, BYTES);
    const int first = 0;
    dpr_stream_t *stream = make_stream(test);
    const bool waits = suite.size > 1 && test->rank == 1;
    (void)make_group(test, &first, 1);
    if (suite.size > 1) {
        dpr_comm_channel_t *channel = make_channel(test, 0, 1, BYTES);
        CHECK(test, !waits || dpr_channel_recv(channel, buffer, BYTES, 0.0, stream) == DPR_OK);
        sleep_ms(20);
    }
    dpr_comm_destroy(suite.mpi);
    CHECK(test, dpr_stream_synchronize(stream) == (waits ? DPR_ERR_COMM : DPR_OK));
    dpr_stream_destroy(stream);
    free_memory(test, buffer);
    return test->failures;
}

int suite_end(void)
{
    rank_test_t test = {.comm = suite.mpi, .size = suite.size};
    if (!suite.is_mpi) {
        return 0;
    }
    test.rank = dpr_comm_rank(suite.mpi);
    if (open_device(test.rank, DPR_CLOCK_WALL, 0, &test.device) != DPR_OK) {
        return 1;
    }
    dpr_comm_set_device(suite.mpi, test.device);
    const int failures = leave_mpi(&test);
    dpr_device_destroy(test.device);
    return failures + cuda_end();
}

int suite_size(void)
{
    return suite.size;
}

void suite_let_ranks_be_left_behind(void)
{
    suite.left_behind = true;
}

bool suite_is_mpi(void)
{
    return suite.is_mpi;
}

bool suite_is_nccl(void)
{
    return suite.is_nccl;
}

bool suite_is_on_cuda(void)
{
    return suite.on_cuda;
}

static bool is_on_gpus(void)
{
    return suite.on_cuda && !suite_is_on_standin();
}

bool suite_needs_one_order(void)
{
    return suite.is_nccl || is_on_gpus();
}

bool suite_sends_end_early(void)
{
    return suite.is_nccl && is_on_gpus();
}

/* At worst all ranks share one GPU, but never with NCCL, which has streams of its own. One stream
 * is the device's. */
int suite_most_streams(int wanted)
{
    const int most = suite.is_nccl ? GPU_QUEUES / 2 : GPU_QUEUES / suite.size - 1;
    return !is_on_gpus() || wanted < most ? wanted : most > 0 ? most : 1;
}

int suite_most_ahead(int wanted)
{
    return is_on_gpus() && wanted > GPU_AHEAD ? GPU_AHEAD : wanted;
}

typedef struct rank_job {
    rank_test_t test;
    scenario_fn_t scenario;
    dpr_clock_t clock;
    uint64_t chaos_seed;
    dpr_comm_t *bootstrap; /* nccl */
} rank_job_t;

static void *run_rank(void *argument)
{
    rank_job_t *job = argument;
    rank_test_t *test = &job->test;
    if (suite.is_nccl) {
        job->bootstrap = test->comm;
        CHECK(test, dpr_comm_nccl_create(job->bootstrap, 2, &test->comm) == DPR_OK);
    }
    test->rank = dpr_comm_rank(test->comm);
    test->size = dpr_comm_size(test->comm);
    if (open_device(test->rank, job->clock, job->chaos_seed, &test->device) != DPR_OK) {
        fprintf(stderr, "rank %d has no device\n", test->rank);
        exit(1);
    }
    dpr_comm_set_device(test->comm, test->device);
    job->scenario(test);
    if (suite.is_nccl) {
        dpr_comm_destroy(test->comm); /* collective */
    }
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
    const rank_job_t job = {
        .test = {.is_mpi = suite.is_mpi, .is_nccl = suite.is_nccl, .seed = seed},
        .scenario = scenario,
        .clock = clock,
        .chaos_seed = chaos_seed};
    cuda_begin(chaos_seed);
    const int failures = suite.is_mpi ? run_mpi(job) : run_local(job);
    return failures + cuda_end();
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

/* What both a stream and the test can use. */
static dpr_memory_kind_t test_memory(void)
{
    return suite.on_cuda ? DPR_MEMORY_PINNED : DPR_MEMORY_DEVICE;
}

void *make_memory(rank_test_t *test, size_t bytes)
{
    void *memory = NULL;
    CHECK(test, dpr_device_alloc(test->device, test_memory(), bytes, &memory) == DPR_OK);
    return memory;
}

void free_memory(rank_test_t *test, void *memory)
{
    dpr_device_free(test->device, test_memory(), memory);
}

void meet(rank_test_t *test)
{
    CHECK(test, dpr_comm_barrier(test->comm) == DPR_OK);
}

void settle(rank_test_t *test)
{
    if (is_on_gpus()) {
        meet(test);
    }
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
