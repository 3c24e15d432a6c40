/* Tests on a real device: nothing can be arranged or looked at from outside. */
#include "fixture_backend.h"

bool fixture_backend_begin(bool plain)
{
    return !plain;
}

void fixture_backend_end(void)
{
}
