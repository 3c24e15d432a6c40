/* The devices: how many, what they are, which is current in a thread. */
#include "internal.h"

#include <stdio.h>
#include <string.h>

enum { DEVICES_DEFAULT = 8, PCI_BUS_FIRST = 0x10, MULTIPROCESSORS = 132 };

device_t standin_devices[MAX_DEVICES];

static _Thread_local int current;

int device_current(void)
{
    return current;
}

void device_set_current(int device)
{
    current = device;
}

static int device_count(void)
{
    const int asked = standin_settings.devices;
    if (asked < 0) {
        return 0;
    }
    return asked == 0 ? DEVICES_DEFAULT : asked < MAX_DEVICES ? asked : MAX_DEVICES;
}

static bool exists(int device)
{
    return device >= 0 && device < device_count();
}

cudaError_t cudaGetDeviceCount(int *count)
{
    const cudaError_t error = standin_enter_always("cudaGetDeviceCount");
    if (error != cudaSuccess) {
        return standin_return(error);
    }
    *count = device_count();
    return standin_return(*count > 0 ? cudaSuccess : cudaErrorNoDevice);
}

cudaError_t cudaSetDevice(int device)
{
    cudaError_t error = standin_enter_always("cudaSetDevice");
    if (error != cudaSuccess) {
        return standin_return(error);
    }
    if (!exists(device)) {
        return standin_return(device_count() > 0 ? cudaErrorInvalidDevice : cudaErrorNoDevice);
    }
    current = device;
    standin_lock();
    error = standin_devices[device].error;
    standin_unlock();
    return standin_return(error);
}

cudaError_t cudaGetDevice(int *device)
{
    const cudaError_t error = standin_enter_always("cudaGetDevice");
    if (error == cudaSuccess) {
        *device = current;
    }
    return standin_return(error);
}

cudaError_t cudaDriverGetVersion(int *version)
{
    const cudaError_t error = standin_enter_always("cudaDriverGetVersion");
    if (error == cudaSuccess) {
        *version = device_count() > 0 ? CUDART_VERSION : 0;
    }
    return standin_return(error);
}

cudaError_t cudaRuntimeGetVersion(int *version)
{
    const cudaError_t error = standin_enter_always("cudaRuntimeGetVersion");
    if (error == cudaSuccess) {
        *version = CUDART_VERSION;
    }
    return standin_return(error);
}

static int major(void)
{
    return standin_settings.compute_major > 0 ? standin_settings.compute_major : 9;
}

static int minor(void)
{
    return standin_settings.compute_major > 0 ? standin_settings.compute_minor : 0;
}

size_t device_memory_bytes(void)
{
    return standin_settings.memory_bytes > 0 ? standin_settings.memory_bytes : (size_t)1 << 30;
}

cudaError_t cudaGetDeviceProperties(struct cudaDeviceProp *properties, int device)
{
    ENTER("cudaGetDeviceProperties");
    if (!exists(device)) {
        return standin_return(cudaErrorInvalidDevice);
    }
    memset(properties, 0, sizeof(*properties));
    snprintf(properties->name, sizeof(properties->name), "CUDA stand-in %d", device);
    properties->totalGlobalMem = device_memory_bytes();
    properties->sharedMemPerBlock = 48 << 10;
    properties->sharedMemPerMultiprocessor = 228 << 10;
    properties->sharedMemPerBlockOptin = 227 << 10;
    properties->regsPerBlock = 65536;
    properties->warpSize = 32;
    properties->maxThreadsPerBlock = 1024;
    properties->maxThreadsDim[0] = 1024;
    properties->maxThreadsDim[1] = 1024;
    properties->maxThreadsDim[2] = 64;
    properties->maxGridSize[0] = 2147483647;
    properties->maxGridSize[1] = 65535;
    properties->maxGridSize[2] = 65535;
    properties->maxThreadsPerMultiProcessor = 2048;
    properties->multiProcessorCount = MULTIPROCESSORS;
    properties->major = major();
    properties->minor = minor();
    properties->pciBusID = PCI_BUS_FIRST + device;
    properties->asyncEngineCount = 3;
    properties->unifiedAddressing = 1;
    properties->concurrentKernels = 1;
    properties->canMapHostMemory = 1;
    properties->streamPrioritiesSupported = 1;
    properties->l2CacheSize = 50 << 20;
    return cudaSuccess;
}

static bool attribute(int device, enum cudaDeviceAttr which, int *value)
{
    switch (which) {
    case cudaDevAttrComputeCapabilityMajor:
        *value = major();
        return true;
    case cudaDevAttrComputeCapabilityMinor:
        *value = minor();
        return true;
    case cudaDevAttrMultiProcessorCount:
        *value = MULTIPROCESSORS;
        return true;
    case cudaDevAttrMaxThreadsPerBlock:
        *value = 1024;
        return true;
    case cudaDevAttrMaxThreadsPerMultiProcessor:
        *value = 2048;
        return true;
    case cudaDevAttrMaxSharedMemoryPerBlock:
        *value = 48 << 10;
        return true;
    case cudaDevAttrMaxSharedMemoryPerBlockOptin:
        *value = 227 << 10;
        return true;
    case cudaDevAttrWarpSize:
        *value = 32;
        return true;
    case cudaDevAttrPciBusId:
        *value = PCI_BUS_FIRST + device;
        return true;
    case cudaDevAttrPciDeviceId:
    case cudaDevAttrPciDomainId:
    case cudaDevAttrPageableMemoryAccess:
    case cudaDevAttrComputeMode:
        *value = 0;
        return true;
    case cudaDevAttrUnifiedAddressing:
    case cudaDevAttrCanMapHostMemory:
    case cudaDevAttrConcurrentKernels:
    case cudaDevAttrStreamPrioritiesSupported:
        *value = 1;
        return true;
    default:
        return false;
    }
}

cudaError_t cudaDeviceGetAttribute(int *value, enum cudaDeviceAttr which, int device)
{
    ENTER("cudaDeviceGetAttribute");
    if (!exists(device)) {
        return standin_return(cudaErrorInvalidDevice);
    }
    if (!attribute(device, which, value)) {
        standin_misuse("cudaDeviceGetAttribute: the stand-in does not know attribute %d",
                       (int)which);
        return standin_return(cudaErrorInvalidValue);
    }
    return cudaSuccess;
}

cudaError_t cudaDeviceGetPCIBusId(char *text, int size, int device)
{
    ENTER("cudaDeviceGetPCIBusId");
    if (!exists(device)) {
        return standin_return(cudaErrorInvalidDevice);
    }
    const int length = snprintf(text, (size_t)size, "0000:%02X:00.0", PCI_BUS_FIRST + device);
    return standin_return(length < size ? cudaSuccess : cudaErrorInvalidValue);
}
