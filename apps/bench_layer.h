/*
 * A linear layer for dualpipe_bench gemm: operands in device memory, its three products through the
 * seam and by the library alone, and a check of either.
 */
#ifndef DPR_APPS_BENCH_LAYER_H
#define DPR_APPS_BENCH_LAYER_H

#include "apps/bench_products.h"

typedef enum bench_product {
    BENCH_FORWARD, /* y = x W + b */
    BENCH_INPUT,   /* dx = dy W^T */
    BENCH_WEIGHT,  /* dW += x^T dy, db += column sums */
} bench_product_t;

enum { BENCH_PRODUCTS = 3 };

extern const char *const bench_product_names[BENCH_PRODUCTS];

/* One layer, its operands in device memory, and copies of them for the check. */
typedef struct bench_layer {
    dpr_stream_t *stream; /* not owned */
    int rows;
    int in;
    int out;
    size_t floats[3]; /* of x, W and y, which also stand for their gradients */
    float *x;
    float *w;
    float *y;
    float *b;    /* [out], 0; also db */
    float *into; /* the result: as large as the largest of the three */
    float *host; /* pinned: x, W and y as they are, then a result */
    size_t host_floats;
} bench_layer_t;

/* Random operands, in place when it returns. Close it also where opening failed. */
dpr_status_t bench_layer_open(bench_machine_t *machine, dpr_stream_t *stream, int rows, int in,
                              int out, bench_layer_t *layer);
void bench_layer_close(bench_machine_t *machine, bench_layer_t *layer);

/* What a product is, and enqueuing it: as a stage does, or by the library alone. */
dpr_plain_product_t bench_layer_product(const bench_layer_t *layer, bench_product_t kind);
dpr_status_t bench_layer_play(bench_machine_t *machine, const bench_layer_t *layer,
                              bench_product_t kind);
dpr_status_t bench_layer_play_bare(bench_machine_t *machine, const bench_layer_t *layer,
                                   bench_product_t kind);

/* Plays one product from a cleared result and holds entries of it against sums in double. Errors:
 * DPR_ERR_MISMATCH, logged with the entry. */
dpr_status_t bench_layer_check(bench_machine_t *machine, const bench_layer_t *layer,
                               bench_product_t kind, bool is_bare);

#endif
