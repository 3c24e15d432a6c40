/* Runs the blocks of emulated kernels (emulation.h). */
#include "emulation.h"

#include <string.h>

#include "emulation_fiber.h"
#include "internal.h"

enum { WARP = 32, MOST_ARGUMENTS = 1024, LARGEST_GRID = 65535 };

typedef enum thread_state { THREAD_READY, THREAD_AT_BARRIER, THREAD_AT_SHUFFLE } thread_state_t;

/* One thread of the block that runs. */
typedef struct thread {
    thread_state_t state;
    bool ended;
    emulation_place_t place; /* where it waits */
    unsigned mask;
    unsigned source;
    uint64_t bits; /* handed in, then handed out */
} thread_t;

typedef struct launch {
    void (*kernel)(void);
    emulation_call_fn_t call;
    dim3 grid;
    dim3 block;
    alignas(16) unsigned char argument[]; /* of the kernel */
} launch_t;

uint3 emulation_thread;
uint3 emulation_block;
dim3 emulation_block_dim;
dim3 emulation_grid_dim;

static thread_t threads[FIBERS];
static int running;
static int block_threads;
static const launch_t *launch;
static bool reported; /* one report a launch is enough */
static uint64_t random_state;

/* The linker's: where the section of shared variables begins and ends. */
extern unsigned char __start_dpr_emulation_shared[] __attribute__((weak));
extern unsigned char __stop_dpr_emulation_shared[] __attribute__((weak));

#define REPORT(...)                                                                                \
    do {                                                                                           \
        if (!reported) {                                                                           \
            standin_misuse(__VA_ARGS__);                                                           \
            reported = true;                                                                       \
        }                                                                                          \
    } while (0)

/* An order of 0 .. n - 1: begin, then always `step` further. In order where the seed is 0. */
typedef struct order {
    uint64_t begin;
    uint64_t step;
    uint64_t n;
} order_t;

/* SplitMix64 (Steele, Lea and Flood 2014). */
static uint64_t next_random(void)
{
    random_state += UINT64_C(0x9E3779B97F4A7C15);
    uint64_t z = random_state;
    z = (z ^ (z >> 30)) * UINT64_C(0xBF58476D1CE4E5B9);
    z = (z ^ (z >> 27)) * UINT64_C(0x94D049BB133111EB);
    return z ^ (z >> 31);
}

static uint64_t divisor_of(uint64_t a, uint64_t b)
{
    while (b != 0) {
        const uint64_t rest = a % b;
        a = b;
        b = rest;
    }
    return a;
}

static order_t make_order(uint64_t n)
{
    order_t order = {.begin = 0, .step = 1, .n = n};
    if (standin_settings.seed != 0) {
        order.begin = next_random() % n;
        do {
            order.step = 1 + next_random() % n;
        } while (divisor_of(order.step, n) != 1);
    }
    return order;
}

static uint64_t in_order(const order_t *order, uint64_t i)
{
    return (order->begin + i % order->n * order->step) % order->n;
}

static void place_thread(int index)
{
    const unsigned linear = (unsigned)index;
    running = index;
    emulation_thread = (uint3){.x = linear % launch->block.x,
                               .y = linear / launch->block.x % launch->block.y,
                               .z = linear / launch->block.x / launch->block.y};
}

/* What a fiber does: one thread, from its beginning. */
static void thread_body(void)
{
    launch->call(launch->kernel, launch->argument);
}

static void resume(int index)
{
    place_thread(index);
    fiber_resume(index, thread_body);
    threads[index].ended = fiber_is_idle(index);
}

static void give_way(thread_state_t state, emulation_place_t place)
{
    threads[running].state = state;
    threads[running].place = place;
    fiber_yield();
}

unsigned emulation_lane(void)
{
    return (unsigned)running % WARP;
}

void emulation_barrier(emulation_place_t place)
{
    give_way(THREAD_AT_BARRIER, place);
}

uint64_t emulation_shuffle(emulation_place_t place, unsigned mask, uint64_t bits, unsigned source)
{
    thread_t *thread = &threads[running];
    if ((mask >> emulation_lane() & 1U) == 0) {
        REPORT("%s:%d: lane %u shuffles, but its mask %#x does not name it", place.file, place.line,
               emulation_lane(), mask);
        return bits;
    }
    thread->mask = mask;
    thread->bits = bits;
    thread->source = source;
    give_way(THREAD_AT_SHUFFLE, place);
    return thread->bits;
}

static bool same_place(const thread_t *a, const thread_t *b)
{
    return a->place.line == b->place.line && strcmp(a->place.file, b->place.file) == 0;
}

/* Whether all whom the thread's mask names are at the same shuffle as it. */
static bool shuffle_is_complete(const thread_t *warp, int lanes, const thread_t *thread)
{
    for (int lane = 0; lane < WARP; lane++) {
        if ((thread->mask >> lane & 1U) == 0) {
            continue;
        }
        const thread_t *other = &warp[lane];
        if (lane >= lanes || other->ended || other->state != THREAD_AT_SHUFFLE ||
            other->mask != thread->mask || !same_place(other, thread)) {
            return false;
        }
    }
    return true;
}

static void complete_shuffle(thread_t *warp, unsigned mask)
{
    uint64_t bits[WARP];
    for (int lane = 0; lane < WARP; lane++) {
        bits[lane] = warp[lane].bits;
    }
    for (int lane = 0; lane < WARP; lane++) {
        if ((mask >> lane & 1U) == 0) {
            continue;
        }
        thread_t *thread = &warp[lane];
        thread->state = THREAD_READY;
        thread->bits = UINT64_MAX;
        if (thread->source >= WARP || (mask >> thread->source & 1U) == 0) {
            REPORT("%s:%d: lane %d reads lane %u, which is not in the mask %#x", thread->place.file,
                   thread->place.line, lane, thread->source, mask);
            continue;
        }
        thread->bits = bits[thread->source];
    }
}

static bool complete_shuffles(void)
{
    bool progress = false;
    for (int first = 0; first < block_threads; first += WARP) {
        thread_t *warp = &threads[first];
        const int lanes = block_threads - first < WARP ? block_threads - first : WARP;
        for (int lane = 0; lane < lanes; lane++) {
            const thread_t *thread = &warp[lane];
            if (!thread->ended && thread->state == THREAD_AT_SHUFFLE &&
                shuffle_is_complete(warp, lanes, thread)) {
                complete_shuffle(warp, thread->mask);
                progress = true;
            }
        }
    }
    return progress;
}

/* All threads of the block at one barrier. */
static bool complete_barrier(void)
{
    for (int i = 0; i < block_threads; i++) {
        if (threads[i].ended || threads[i].state != THREAD_AT_BARRIER ||
            !same_place(&threads[i], &threads[0])) {
            return false;
        }
    }
    for (int i = 0; i < block_threads; i++) {
        threads[i].state = THREAD_READY;
    }
    return true;
}

static const char *state_text(const thread_t *thread)
{
    return thread->ended                        ? "has ended"
           : thread->state == THREAD_AT_BARRIER ? "waits at a barrier"
                                                : "waits at a shuffle";
}

/* Nobody can go on: says so, and lets all go on, so that the block ends. */
static void break_up(void)
{
    int waiting = 0;
    while (threads[waiting].ended) {
        waiting++;
    }
    const thread_t *one = &threads[waiting];
    int other = 0;
    while (other < block_threads - 1 &&
           (other == waiting || (!threads[other].ended && threads[other].state == one->state &&
                                 same_place(&threads[other], one)))) {
        other++;
    }
    REPORT("%s:%d: thread %d of block %u %s, but thread %d %s: not all take part", one->place.file,
           one->place.line, waiting, emulation_block.x, state_text(one), other,
           state_text(&threads[other]));
    for (int i = 0; i < block_threads; i++) {
        threads[i].state = THREAD_READY;
    }
}

/* Which warps rest, one bit each: some for a while, so that others get far ahead of them, and their
 * reads come before or after the others' writes. */
static uint32_t choose_resting(void)
{
    static uint32_t resting;
    const uint64_t draw = next_random();
    if (draw % 16 == 0) {
        resting = (uint32_t)(draw >> 32);
    }
    return resting;
}

/*
 * Each thread as far as it gets; some warps rest meanwhile, unless all must run. Sets *resumed to
 * how many ran, and returns how many have not ended.
 */
static int run_threads(bool all, int *resumed)
{
    int left = 0;
    const order_t order = make_order((uint64_t)block_threads);
    const uint32_t resting = all ? 0 : choose_resting();
    *resumed = 0;
    for (int i = 0; i < block_threads; i++) {
        const int index = (int)in_order(&order, (uint64_t)i);
        const bool rests = (resting >> index / WARP & 1U) != 0;
        if (!threads[index].ended && threads[index].state == THREAD_READY && !rests) {
            resume(index);
            (*resumed)++;
        }
        left += !threads[index].ended;
    }
    return left;
}

__attribute__((no_sanitize("address"))) static void poison_shared(void)
{
    for (volatile unsigned char *at = __start_dpr_emulation_shared;
         at != __stop_dpr_emulation_shared; at++) {
        *at = POISON;
    }
}

static void run_block(uint64_t number)
{
    const uint64_t x = launch->grid.x;
    const uint64_t y = launch->grid.y;
    emulation_block = (uint3){.x = (unsigned)(number % x),
                              .y = (unsigned)(number / x % y),
                              .z = (unsigned)(number / x / y)};
    poison_shared();
    memset(threads, 0, (size_t)block_threads * sizeof threads[0]);
    const bool in_step = standin_settings.seed == 0;
    bool all = in_step;
    int resumed;
    while (run_threads(all, &resumed) > 0) {
        const bool progress = complete_shuffles() || complete_barrier() || resumed > 0;
        if (!progress && all) {
            break_up();
        }
        all = in_step || !progress;
    }
}

static void run_launch(void *argument)
{
    launch = argument;
    reported = false;
    random_state = standin_settings.seed + standin_operations();
    emulation_grid_dim = launch->grid;
    emulation_block_dim = launch->block;
    block_threads = (int)(launch->block.x * launch->block.y * launch->block.z);
    if (!fibers_reserve(block_threads)) {
        standin_misuse("emulation: no memory for the stacks of %d threads", block_threads);
        return;
    }
    const uint64_t blocks = (uint64_t)launch->grid.x * launch->grid.y * launch->grid.z;
    const order_t order = make_order(blocks);
    for (uint64_t i = 0; i < blocks; i++) {
        run_block(in_order(&order, i));
    }
}

/* The limits that hold from compute capability 5.0 on (CUDA programming guide, "Technical
 * specifications per compute capability"). */
static bool fits_a_gpu(dim3 grid, dim3 block, size_t shared_bytes, size_t bytes)
{
    if (grid.x == 0 || grid.y == 0 || grid.z == 0 || grid.x > INT32_MAX || grid.y > LARGEST_GRID ||
        grid.z > LARGEST_GRID) {
        standin_misuse("cudaLaunchKernel: a grid of %u x %u x %u blocks", grid.x, grid.y, grid.z);
        return false;
    }
    if (block.x == 0 || block.y == 0 || block.z == 0 || block.z > 64 ||
        (uint64_t)block.x * block.y * block.z > FIBERS) {
        standin_misuse("cudaLaunchKernel: a block of %u x %u x %u threads", block.x, block.y,
                       block.z);
        return false;
    }
    if (shared_bytes != 0 || bytes > MOST_ARGUMENTS) {
        standin_misuse("cudaLaunchKernel: %zu bytes of dynamic shared memory and %zu of arguments "
                       "are not emulated",
                       shared_bytes, bytes);
        return false;
    }
    return true;
}

cudaError_t emulation_launch(void (*kernel)(void), emulation_call_fn_t call, dim3 grid, dim3 block,
                             const void *argument, size_t bytes, size_t shared_bytes,
                             cudaStream_t stream)
{
    ENTER("cudaLaunchKernel");
    if (!fits_a_gpu(grid, block, shared_bytes, bytes)) {
        return standin_return(cudaErrorInvalidConfiguration);
    }
    alignas(16) unsigned char copy[sizeof(launch_t) + MOST_ARGUMENTS];
    launch_t *header = (launch_t *)(void *)copy;
    *header = (launch_t){.kernel = kernel, .call = call, .grid = grid, .block = block};
    memcpy(header->argument, argument, bytes);
    return standin_enqueue(stream, "cudaLaunchKernel", run_launch, copy, sizeof(launch_t) + bytes);
}
