/* The kernels' arithmetic, naively and in double: what every backend is held against. */
#ifndef DPR_TESTS_KERNELS_REFERENCE_H
#define DPR_TESTS_KERNELS_REFERENCE_H

#include <stddef.h>
#include <stdint.h>

double reference_gelu(double a);
double reference_gelu_slope(double a);

void reference_layernorm(size_t rows, size_t columns, const double *x, const double *gamma,
                         const double *beta, double *y, double *mean, double *rstd);

/* dgamma and dbeta are added to, dx is stored (without a residual). */
void reference_layernorm_backward(size_t rows, size_t columns, const double *dy, const double *x,
                                  const double *gamma, double *dx, double *dgamma, double *dbeta);

/* y = x w + b */
void reference_linear(size_t rows, size_t in, size_t out, const double *x, const double *w,
                      const double *b, double *y);

/* dx is stored, dw and db are added to. */
void reference_linear_backward(size_t rows, size_t in, size_t out, const double *dy,
                               const double *x, const double *w, double *dx, double *dw,
                               double *db);

/* As softmax_cross_entropy; dlogits may be NULL. */
void reference_softmax_cross_entropy(size_t rows, size_t classes, const double *logits,
                                     const int32_t *labels, double scale, double *dlogits,
                                     double *result);

/*
 * The derivative of f with respect to *x by central differences; `argument` is handed to f.
 * Richardson's step from h and h / 2 makes it accurate to about 1e-9 for functions of order 1.
 */
typedef double (*reference_fn_t)(void *argument);
double reference_derivative(reference_fn_t f, void *argument, double *x);

#endif
