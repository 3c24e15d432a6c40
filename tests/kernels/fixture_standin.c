/* Tests on the stand-in for CUDA. */
#include "fixture.h"

#include "fixture_backend.h"
#include "lt_standin.h"
#include "standin.h"

bool fixture_backend_begin(bool plain)
{
    standin_reset(NULL);
    standin_lt_allow(!plain, true);
    return true;
}

void fixture_backend_end(void)
{
    char text[1024];
    if (standin_misuses() > 0) {
        fail_msg("misuse of CUDA: %s", standin_misuse_text(text, sizeof text));
    }
    if (standin_leaks(text, sizeof text) > 0) {
        fail_msg("left behind: %s", text);
    }
}
