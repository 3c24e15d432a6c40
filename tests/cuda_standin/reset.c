/* The settings, the reset between tests, and what is still alive. */
#include "internal.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { MAX_KINDS = 16 };

standin_options_t standin_settings;

/* Objects of other files (standin_alive). */
static struct {
    const char *kind;
    int count;
} others[MAX_KINDS];

void standin_configure(const standin_options_t *options)
{
    const char *seed = getenv("DPR_STANDIN_SEED");
    standin_settings = (standin_options_t){.seed = seed != NULL ? strtoull(seed, NULL, 10) : 0};
    if (options != NULL) {
        standin_settings = *options;
    }
    scheduler_seed(standin_settings.seed);
}

void standin_reset(const standin_options_t *options)
{
    scheduler_start();
    standin_drain();
    standin_lock();
    nccl_reset();
    object_forget_all();
    memory_reset();
    ops_reset();
    omit_reset();
    memset(standin_devices, 0, sizeof(standin_devices));
    memset(others, 0, sizeof(others));
    standin_configure(options);
    standin_unlock();
    inject_reset();
    device_set_current(0);
    (void)cudaGetLastError();
    inject_reset();
}

void standin_alive(const char *kind, int change)
{
    standin_lock();
    for (int i = 0; i < MAX_KINDS; i++) {
        if (others[i].kind == NULL || strcmp(others[i].kind, kind) == 0) {
            others[i].kind = kind;
            others[i].count += change;
            break;
        }
    }
    standin_unlock();
}

typedef struct list {
    char *text;
    size_t size;
    size_t used;
    int total;
} list_t;

static void add(list_t *list, const char *kind, int count)
{
    if (count == 0) {
        return;
    }
    if (list->used < list->size) {
        const int length = snprintf(list->text + list->used, list->size - list->used, "%s%s: %d",
                                    list->total > 0 ? ", " : "", kind, count);
        list->used += (size_t)length;
    }
    list->total += count;
}

int standin_leaks(char *text, size_t size)
{
    list_t list = {.text = text, .size = text != NULL ? size : 0};
    if (list.size > 0) {
        text[0] = '\0';
    }
    standin_lock();
    for (int kind = 0; kind < OBJECT_KINDS; kind++) {
        add(&list, object_kind_name((object_kind_t)kind), object_count((object_kind_t)kind));
    }
    add(&list, "device allocation", memory_count(MEMORY_DEVICE));
    add(&list, "pinned allocation", memory_count(MEMORY_PINNED));
    add(&list, "operation pending", (int)scheduler_pending());
    for (int i = 0; i < MAX_KINDS && others[i].kind != NULL; i++) {
        add(&list, others[i].kind, others[i].count);
    }
    standin_unlock();
    return list.total;
}
