/*
 * Fibers. A stack is entered for the first time by ucontext; from then on, jumps change between
 * stacks, because swapcontext makes a system call each time. Sanitizers do not follow jumps to
 * other stacks: under them it is swapcontext, with what they want to know of a change.
 */
#undef _FORTIFY_SOURCE /* whose longjmp refuses to change to another stack */
#include "emulation_fiber.h"

#include <setjmp.h>
#include <stddef.h>
#include <sys/mman.h>
#include <ucontext.h>

#if defined(__SANITIZE_ADDRESS__)
#include <sanitizer/common_interface_defs.h>
#elif defined(__SANITIZE_THREAD__)
#include <sanitizer/tsan_interface.h>
#endif

#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
#define FIBERS_JUMP 0
#else
#define FIBERS_JUMP 1
#endif

enum { STACK_BYTES = 256 << 10 };

/* Where a stack was left. */
typedef struct context {
    ucontext_t ucontext;
    jmp_buf jump;
    void *sanitizer;    /* what the sanitizer keeps of it */
    const void *bottom; /* of its stack */
    size_t bytes;
} context_t;

typedef struct fiber {
    context_t context;
    void (*body)(void);
    bool idle;
    bool entered;
} fiber_t;

static fiber_t fibers[FIBERS];
static int made;
static int running;
static context_t outside;

/* Leaves one stack for another; returns when somebody comes back. */
static void change(context_t *from, context_t *to, bool to_is_entered)
{
#if FIBERS_JUMP
    if (_setjmp(from->jump) == 0) {
        if (to_is_entered) {
            _longjmp(to->jump, 1);
        }
        setcontext(&to->ucontext);
    }
#else
    (void)to_is_entered;
#if defined(__SANITIZE_ADDRESS__)
    __sanitizer_start_switch_fiber(&from->sanitizer, to->bottom, to->bytes);
    swapcontext(&from->ucontext, &to->ucontext);
    __sanitizer_finish_switch_fiber(from->sanitizer, &to->bottom, &to->bytes);
#else
    if (from == &outside) {
        from->sanitizer = __tsan_get_current_fiber();
    }
    __tsan_switch_to_fiber(to->sanitizer, 0);
    swapcontext(&from->ucontext, &to->ucontext);
#endif
#endif
}

static void fiber_main(void)
{
    fiber_t *fiber = &fibers[running];
#if defined(__SANITIZE_ADDRESS__)
    __sanitizer_finish_switch_fiber(NULL, &outside.bottom, &outside.bytes);
#endif
    for (;;) {
        fiber->body();
        fiber->idle = true;
        change(&fiber->context, &outside, true);
    }
}

static bool make(fiber_t *fiber)
{
    void *stack = mmap(NULL, STACK_BYTES, PROT_READ | PROT_WRITE,
                       MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (stack == MAP_FAILED || getcontext(&fiber->context.ucontext) != 0) {
        return false;
    }
    fiber->context.ucontext.uc_stack.ss_sp = stack;
    fiber->context.ucontext.uc_stack.ss_size = STACK_BYTES;
    fiber->context.ucontext.uc_link = NULL;
    fiber->context.bottom = stack;
    fiber->context.bytes = STACK_BYTES;
    fiber->idle = true;
#if defined(__SANITIZE_THREAD__)
    fiber->context.sanitizer = __tsan_create_fiber(0);
#endif
    makecontext(&fiber->context.ucontext, fiber_main, 0);
    return true;
}

bool fibers_reserve(int count)
{
    while (made < count && make(&fibers[made])) {
        made++;
    }
    return made >= count;
}

void fiber_resume(int index, void (*body)(void))
{
    fiber_t *fiber = &fibers[index];
    if (fiber->idle) {
        fiber->idle = false;
        fiber->body = body;
    }
    const bool entered = fiber->entered;
    fiber->entered = true;
    running = index;
    change(&outside, &fiber->context, entered);
}

void fiber_yield(void)
{
    change(&fibers[running].context, &outside, true);
}

bool fiber_is_idle(int index)
{
    return fibers[index].idle;
}
