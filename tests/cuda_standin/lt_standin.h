/*
 * The stand-in for cuBLASLt, its own side.
 *
 * What it models: one product cublasLtMatmul, column-major, with the epilogues that kernels/cuda
 * uses; types fp32, tf32 (inputs rounded to 10 bits of mantissa) and bf16, sums in float. The
 * vendor's rules on types, shapes, leading dimensions, bias and aux are checked, and an algorithm
 * must be one that the heuristic gave for this very problem on this device. The heuristic has:
 *
 *     algorithm              where                                       sums
 *     with an epilogue       all 16-byte aligned, so are all columns     in order
 *     without                always                                      in order, or in two parts
 *                                                                        where k and the workspace
 *                                                                        allow
 *
 * A split product whose partial sums are rounded to the output's type, or reduced in place, comes
 * first where the preference allows it: as a wrong result in bf16, it shows that it should not
 * have.
 */
#ifndef DPR_TESTS_CUDA_STANDIN_LT_STANDIN_H
#define DPR_TESTS_CUDA_STANDIN_LT_STANDIN_H

#include <cublasLt.h>
#include <stdbool.h>

#ifdef __cplusplus
extern "C" {
#endif

/* Whether there is any algorithm with an epilogue (true at first), or any at all. */
void standin_lt_allow(bool epilogues, bool products);

/* Products run with an epilogue, and without, since the last standin_lt_allow. */
void standin_lt_count(unsigned long *with_epilogue, unsigned long *without);

/* How many multiprocessors the latest product was to target; 0: all. */
int standin_lt_multiprocessors(void);

/* The least and the most of these, of all products since the last standin_lt_allow; -1: none ran.
 */
void standin_lt_targets(int *least, int *most);

#ifdef __cplusplus
}
#endif

#endif
