/*
 * A rank that ends must take the whole job with it; run by mpirun, whose exit code and patience
 * ctest checks (comm_ends_job.cmake).
 *
 *      comm_abort abort CODE     the last rank calls dpr_comm_abort(CODE)
 *      comm_abort kill           the last rank is killed
 *      comm_abort stuck CODE     as abort, while a transfer of its own is under way
 *
 * The others wait in a barrier, asleep.
 */
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "comm/comm.h"

static void receive_from_nobody(dpr_comm_t *comm)
{
    static char byte;
    const dpr_host_device_options_t options = {.clock = DPR_CLOCK_WALL};
    dpr_device_t *device;
    dpr_comm_channel_t *channel;
    dpr_stream_t *stream;
    const int last = dpr_comm_size(comm) - 1;
    if (dpr_host_device_create(&options, &device) != DPR_OK) {
        exit(90);
    }
    dpr_comm_set_device(comm, device);
    if (dpr_channel_open(comm, 0, last, 1, &channel) != DPR_OK ||
        dpr_stream_create(device, "stuck", 0, &stream) != DPR_OK) {
        exit(91);
    }
    if (dpr_comm_rank(comm) == last && dpr_channel_recv(channel, &byte, 1, 0.0, stream) != DPR_OK) {
        exit(92);
    }
}

int main(int argc, char **argv)
{
    dpr_comm_t *comm;
    const char *how = argc > 1 ? argv[1] : "";
    const int code = argc > 2 ? atoi(argv[2]) : 1;
    if (dpr_comm_mpi_create(&comm) != DPR_OK) {
        return 99;
    }
    if (strcmp(how, "stuck") == 0) {
        receive_from_nobody(comm);
    }
    (void)dpr_comm_barrier(comm);
    if (dpr_comm_rank(comm) == dpr_comm_size(comm) - 1) {
        usleep(100000);
        if (strcmp(how, "kill") == 0) {
            (void)kill(getpid(), SIGKILL);
        }
        dpr_comm_abort(comm, code);
    }
    (void)dpr_comm_barrier(comm);
    return 98; /* nobody comes here */
}
