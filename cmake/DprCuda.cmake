# The CUDA side of the build: the toolkit, NCCL and NVTX are found by themselves.
#
#     DPR_CUDA=AUTO   built where the CUDA Toolkit (12 or later) and NCCL are (default)
#     DPR_CUDA=ON     an error where they are not
#     DPR_CUDA=OFF    not built
#
# Sets DPR_HAVE_CUDA. Rooms with a cuda backend link dpr_cuda_vendor, which gives a program the vendor's
# libraries, and a target with the property DPR_CUDA_STANDIN the stand-in of tests/cuda_standin instead.
set(DPR_CUDA AUTO CACHE STRING "The CUDA backends: AUTO (where the toolkit and NCCL are found), ON or OFF")
set_property(CACHE DPR_CUDA PROPERTY STRINGS AUTO ON OFF)

set(DPR_HAVE_CUDA FALSE)
set(DPR_CUDA_MISSING "")
if(NOT DPR_CUDA STREQUAL "OFF")
    include(CheckLanguage)
    find_package(CUDAToolkit 12 QUIET)
    if(CUDAToolkit_FOUND AND NOT CMAKE_CUDA_COMPILER AND NOT DEFINED ENV{CUDACXX})
        set(CMAKE_CUDA_COMPILER ${CUDAToolkit_NVCC_EXECUTABLE})
    endif()
    find_path(NCCL_INCLUDE_DIR NAMES nccl.h PATHS ${CUDAToolkit_INCLUDE_DIRS})
    find_library(NCCL_LIBRARY NAMES nccl PATHS ${CUDAToolkit_LIBRARY_DIR})
    if(NOT CUDAToolkit_FOUND)
        set(DPR_CUDA_MISSING "the CUDA Toolkit, version 12 or later")
    elseif(NOT NCCL_INCLUDE_DIR OR NOT NCCL_LIBRARY)
        set(DPR_CUDA_MISSING "NCCL (libnccl-dev)")
    else()
        set(DPR_HAVE_CUDA TRUE)
    endif()
endif()
if(DPR_CUDA STREQUAL "ON" AND NOT DPR_HAVE_CUDA)
    message(FATAL_ERROR "DPR_CUDA=ON, but ${DPR_CUDA_MISSING} was not found")
endif()

if(DPR_HAVE_CUDA)
    # Machine code for Ampere, Hopper and Blackwell, and PTX for what comes later.
    if(NOT CMAKE_CUDA_ARCHITECTURES)
        if(CUDAToolkit_VERSION VERSION_LESS 12.8) # which knows no Blackwell yet
            set(CMAKE_CUDA_ARCHITECTURES 80-real 90-real 90-virtual)
        else()
            set(CMAKE_CUDA_ARCHITECTURES 80-real 90-real 100-real 100-virtual)
        endif()
    endif()
    set(CMAKE_CUDA_RUNTIME_LIBRARY None) # dpr_cuda_vendor brings it, or its stand-in
    enable_language(CUDA)
    enable_language(CXX) # the stand-in compiles the kernels for the CPU
    set(CMAKE_CXX_STANDARD 17)
    set(CMAKE_CXX_STANDARD_REQUIRED ON)
    set(CMAKE_CUDA_STANDARD 17)
    set(CMAKE_CUDA_STANDARD_REQUIRED ON)
    add_library(dpr_nccl INTERFACE)
    target_include_directories(dpr_nccl INTERFACE ${NCCL_INCLUDE_DIR})
    add_library(dpr_cuda_vendor INTERFACE)
    set(is_standin $<BOOL:$<TARGET_PROPERTY:DPR_CUDA_STANDIN>>)
    target_link_libraries(dpr_cuda_vendor INTERFACE
        $<${is_standin}:dpr_cuda_standin>
        $<$<NOT:${is_standin}>:CUDA::cudart>
        $<$<NOT:${is_standin}>:CUDA::cublasLt>
        $<$<NOT:${is_standin}>:${NCCL_LIBRARY}>)
    message(STATUS "CUDA: ${CUDAToolkit_VERSION}, NCCL: ${NCCL_LIBRARY}, for ${CMAKE_CUDA_ARCHITECTURES}")
elseif(DPR_CUDA STREQUAL "OFF")
    message(STATUS "CUDA: off")
else()
    message(STATUS "CUDA: not built, ${DPR_CUDA_MISSING} was not found; the host device is")
endif()
