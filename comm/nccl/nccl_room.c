/*
 * What communicators take of a GPU, and whether it has room for them: multiprocessors and memory.
 * Why this much, and why no deadlock is left, is in docs/nccl.md.
 *
 *      multiprocessors   CTAs of a communicator: those asked for; of a channel, the next power of
 *                        two, as NCCL rounds the channels of sends and receives up. All of a rank's
 *                        communicators together: at most half of the GPU's
 *      memory            for each CTA BUFFERS_PER_CTA buffers of NCCL_BUFFSIZE bytes: an estimate
 */
#include <stdlib.h>

#include "base/log.h"
#include "comm/nccl/nccl_impl.h"

enum {
    OLDEST_VERSION = 22200, /* aborts in a group (nccl_abort.c) */
    BUFFERS_PER_CTA = 4,
    BUFFER_BYTES = 4 << 20, /* NCCL's, unless NCCL_BUFFSIZE says otherwise */
};

dpr_status_t dpr_nccl_check_version(int version)
{
    if (version >= OLDEST_VERSION) {
        return DPR_OK;
    }
    return dpr_fail(DPR_ERR_UNSUPPORTED,
                    "NCCL %d.%d is too old: 2.22 or later is needed, which can abort several "
                    "communicators at once; install it, or use --comm mpi",
                    version / 10000, version / 100 % 100);
}

/* A variable of the environment as a whole number, or `otherwise` where it is none. */
static long number_of(const char *name, long otherwise)
{
    const char *text = getenv(name);
    char *end;
    const long value = text != NULL ? strtol(text, &end, 10) : 0;
    return text != NULL && end != text && *end == '\0' ? value : otherwise;
}

static int larger(int a, long b)
{
    return b > a && b <= INT32_MAX ? (int)b : a;
}

/* How many CTAs an operation may have at once. The user's variables go before what we ask for. */
static int ctas_of(const dpr_comm_nccl_t *comm, bool is_channel)
{
    static const char *const variables[] = {"NCCL_MAX_CTAS", "NCCL_MIN_CTAS", "NCCL_MIN_NCHANNELS"};
    int ctas = comm->ctas;
    for (size_t i = 0; i < sizeof variables / sizeof variables[0]; i++) {
        ctas = larger(ctas, number_of(variables[i], 0));
    }
    if (!is_channel) {
        return ctas;
    }
    int power = 1;
    ctas = larger(ctas, number_of("NCCL_MIN_P2P_NCHANNELS", 0));
    while (power < ctas && power < 1 << 20) {
        power *= 2;
    }
    return power;
}

static bool has_communicator(const dpr_nccl_link_t *link)
{
    return link->members > 1 && !link->closed;
}

static int links_with(const dpr_comm_nccl_t *comm, const dpr_nccl_link_t *added)
{
    int count = has_communicator(added) ? 1 : 0;
    for (const dpr_nccl_link_t *link = comm->links.next; link != &comm->links; link = link->next) {
        count += has_communicator(link) ? 1 : 0;
    }
    return count;
}

static int ctas_with(const dpr_comm_nccl_t *comm, const dpr_nccl_link_t *added)
{
    int ctas = has_communicator(added) ? ctas_of(comm, added->is_channel) : 0;
    for (const dpr_nccl_link_t *link = comm->links.next; link != &comm->links; link = link->next) {
        ctas += has_communicator(link) ? ctas_of(comm, link->is_channel) : 0;
    }
    return ctas;
}

static dpr_status_t check_multiprocessors(const dpr_comm_nccl_t *comm, const dpr_nccl_link_t *link)
{
    int all;
    const int ctas = ctas_with(comm, link);
    DPR_TRY(DPR_CUDA(cudaDeviceGetAttribute(&all, cudaDevAttrMultiProcessorCount, comm->ordinal)));
    if (ctas <= all / 2) {
        return DPR_OK;
    }
    return dpr_fail(DPR_ERR_UNSUPPORTED,
                    "rank %d: with %s its %d NCCL communicators could hold %d of the GPU's %d "
                    "multiprocessors at once, and more than half may keep kernels from running for "
                    "ever: lower --comm-ctas, which is %d, spread the stages so that a rank has "
                    "fewer neighbours, or use --comm mpi",
                    comm->base.rank, link->what, links_with(comm, link), ctas, all, comm->ctas);
}

dpr_status_t dpr_nccl_check_room(const dpr_comm_nccl_t *comm, const dpr_nccl_link_t *link)
{
    return has_communicator(link) ? check_multiprocessors(comm, link) : DPR_OK;
}

static size_t bytes_of(const dpr_comm_nccl_t *comm, bool is_channel)
{
    const long set = number_of("NCCL_BUFFSIZE", BUFFER_BYTES);
    const size_t buffer = set > 0 && set <= 1L << 30 ? (size_t)set : (size_t)BUFFER_BYTES;
    return (size_t)ctas_of(comm, is_channel) * BUFFERS_PER_CTA * buffer;
}

void dpr_nccl_needs(const dpr_comm_t *base, int channels, int groups, dpr_comm_needs_t *needs)
{
    const dpr_comm_nccl_t *comm = dpr_comm_nccl(base);
    *needs = (dpr_comm_needs_t){
        .device_bytes =
            (size_t)channels * bytes_of(comm, true) + (size_t)groups * bytes_of(comm, false),
        .multiprocessors = channels * ctas_of(comm, true),
    };
}
