/* The kernels seam: what does not depend on the backend. */
#include "kernels/kernels.h"

void dpr_kernels_destroy(dpr_kernels_t *kernels)
{
    if (kernels != NULL) {
        kernels->destroy(kernels);
    }
}
