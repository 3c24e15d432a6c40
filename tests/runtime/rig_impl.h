/* What the rig's ranks (rig.c) and its reference (rig_reference.c) are given alike. */
#ifndef DPR_TESTS_RUNTIME_RIG_IMPL_H
#define DPR_TESTS_RUNTIME_RIG_IMPL_H

#include "rig.h"

void rig_make_optimizer(dpr_optimizer_config_t *config);

/* One step's batch, the same for everyone who asks: inputs and labels of all micro-batches. */
void rig_make_batch(const rig_config_t *config, int step, float *inputs, int32_t *labels);

#endif
