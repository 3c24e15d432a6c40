/* Calls counted, failures injected, misuses recorded. */
#include "internal.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

enum { MAX_FUNCTIONS = 256, TEXT_BYTES = 4096, MESSAGES_SHOWN = 20, NAME_BYTES = 64 };

/* Guards everything in this file; taken last. */
static pthread_mutex_t inject_lock = PTHREAD_MUTEX_INITIALIZER;

typedef struct counter {
    char name[NAME_BYTES];
    unsigned long calls;
} counter_t;

static counter_t counters[MAX_FUNCTIONS]; /* open addressing; names stay for good */
static standin_failure_t failure;
static unsigned long failure_seen; /* calls that it counts */
static bool failure_happened;

static int misuses;
static char first_misuse[TEXT_BYTES];

static _Thread_local const char *operation; /* this thread runs one */

static counter_t *counter_of(const char *name)
{
    size_t at = 5381;
    for (const char *c = name; *c != '\0'; c++) {
        at = at * 33 + (unsigned char)*c;
    }
    for (size_t tries = 0; tries < MAX_FUNCTIONS; tries++) {
        counter_t *counter = &counters[(at + tries) % MAX_FUNCTIONS];
        if (counter->name[0] == '\0') {
            memcpy(counter->name, name, strnlen(name, NAME_BYTES - 1)); /* the rest is zero */
        }
        if (strncmp(counter->name, name, NAME_BYTES - 1) == 0) {
            return counter;
        }
    }
    return NULL;
}

bool standin_fails(const char *function, int *error)
{
    const int device = device_current();
    pthread_mutex_lock(&inject_lock);
    counter_t *counter = counter_of(function);
    if (counter != NULL) {
        counter->calls++;
    }
    bool fails = false;
    if (failure.function != NULL && failure.call > 0 && strcmp(failure.function, function) == 0 &&
        (!failure.on_device || failure.device == device)) {
        failure_seen++;
        fails =
            failure_seen == failure.call || (failure.from_then_on && failure_seen > failure.call);
        failure_happened = failure_happened || fails;
        *error = failure.error;
    }
    pthread_mutex_unlock(&inject_lock);
    return fails;
}

bool standin_operation_fails(const char *what, int *error)
{
    char name[NAME_BYTES];
    snprintf(name, sizeof(name), "async:%s", what);
    return standin_fails(name, error);
}

void standin_inject(const standin_failure_t *wanted)
{
    pthread_mutex_lock(&inject_lock);
    failure = wanted != NULL ? *wanted : (standin_failure_t){.function = NULL};
    failure_seen = 0;
    failure_happened = false;
    for (int i = 0; i < MAX_FUNCTIONS; i++) {
        counters[i].calls = 0;
    }
    pthread_mutex_unlock(&inject_lock);
}

void inject_reset(void)
{
    standin_inject(&standin_settings.failure);
    standin_misuse_clear();
}

unsigned long standin_calls(const char *function)
{
    pthread_mutex_lock(&inject_lock);
    const counter_t *counter = counter_of(function);
    const unsigned long calls = counter != NULL ? counter->calls : 0;
    pthread_mutex_unlock(&inject_lock);
    return calls;
}

int standin_functions(const char **names, int capacity)
{
    int count = 0;
    pthread_mutex_lock(&inject_lock);
    for (int i = 0; i < MAX_FUNCTIONS; i++) {
        if (counters[i].name[0] != '\0') {
            if (count < capacity) {
                names[count] = counters[i].name;
            }
            count++;
        }
    }
    pthread_mutex_unlock(&inject_lock);
    return count;
}

bool standin_failed(void)
{
    pthread_mutex_lock(&inject_lock);
    const bool happened = failure_happened;
    pthread_mutex_unlock(&inject_lock);
    return happened;
}

void standin_misuse(const char *format, ...)
{
    char text[TEXT_BYTES];
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(text, sizeof(text), format, arguments);
    va_end(arguments);
    pthread_mutex_lock(&inject_lock);
    if (misuses++ == 0) {
        memcpy(first_misuse, text, sizeof(first_misuse));
    }
    const bool show = !standin_settings.quiet && misuses <= MESSAGES_SHOWN;
    pthread_mutex_unlock(&inject_lock);
    if (show) {
        fprintf(stderr, "cuda stand-in: %s\n", text);
    }
}

int standin_misuses(void)
{
    pthread_mutex_lock(&inject_lock);
    const int count = misuses;
    pthread_mutex_unlock(&inject_lock);
    return count;
}

const char *standin_misuse_text(char *text, size_t size)
{
    pthread_mutex_lock(&inject_lock);
    snprintf(text, size, "%s", misuses > 0 ? first_misuse : "");
    pthread_mutex_unlock(&inject_lock);
    return text;
}

void standin_misuse_clear(void)
{
    pthread_mutex_lock(&inject_lock);
    misuses = 0;
    first_misuse[0] = '\0';
    pthread_mutex_unlock(&inject_lock);
}

void standin_in_operation(const char *what)
{
    operation = what;
}

bool standin_inside_operation(void)
{
    return operation != NULL;
}

cudaError_t standin_enter_always(const char *function)
{
    int error = 0;
    scheduler_start();
    if (operation != NULL) {
        standin_misuse("%s: called from within %s, which must not call CUDA", function, operation);
        return cudaErrorNotPermitted;
    }
    if (standin_fails(function, &error)) {
        return error != 0 ? (cudaError_t)error : cudaErrorUnknown;
    }
    return cudaSuccess;
}

cudaError_t standin_enter(const char *function)
{
    const cudaError_t error = standin_enter_always(function);
    if (error != cudaSuccess) {
        return error;
    }
    standin_lock();
    const cudaError_t broken = standin_devices[device_current()].error;
    standin_unlock();
    return broken;
}

ncclResult_t standin_enter_nccl(const char *function)
{
    int error = 0;
    scheduler_start();
    if (operation != NULL) {
        standin_misuse("%s: called from within %s, which must not call NCCL", function, operation);
        return ncclInvalidUsage;
    }
    if (standin_fails(function, &error)) {
        return error != 0 ? (ncclResult_t)error : ncclSystemError;
    }
    return ncclSuccess;
}
