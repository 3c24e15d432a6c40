/*
 * Where a test's cuda device comes from: the vendor's libraries (fixture_vendor.c) or their
 * stand-in (fixture_standin.c). A program links one of the two.
 */
#ifndef DPR_TESTS_KERNELS_FIXTURE_BACKEND_H
#define DPR_TESTS_KERNELS_FIXTURE_BACKEND_H

#include <stdbool.h>

/* Before a cuda device is opened. `plain`: products must come without epilogues. False where that
 * cannot be arranged. */
bool fixture_backend_begin(bool plain);

/* After it was closed: fails the test on misuse of the libraries and on what was left behind. */
void fixture_backend_end(void);

#endif
