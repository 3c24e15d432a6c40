# OpenBLAS built with pthreads: OpenBLAS::pthread. Debian keeps it beside the serial and OpenMP builds, so
# its own folder is asked for first; which build was really loaded is checked again at run time.
set(openblas_folders openblas-pthread)
find_library(OpenBLASPthread_LIBRARY NAMES openblas
    PATHS /usr/lib/${CMAKE_LIBRARY_ARCHITECTURE} /usr/lib PATH_SUFFIXES ${openblas_folders} NO_DEFAULT_PATH)
find_library(OpenBLASPthread_LIBRARY NAMES openblas)
find_path(OpenBLASPthread_INCLUDE_DIR NAMES cblas.h
    PATHS /usr/include/${CMAKE_LIBRARY_ARCHITECTURE} PATH_SUFFIXES ${openblas_folders} NO_DEFAULT_PATH)
find_path(OpenBLASPthread_INCLUDE_DIR NAMES cblas.h)
include(FindPackageHandleStandardArgs)
find_package_handle_standard_args(OpenBLASPthread
    REQUIRED_VARS OpenBLASPthread_LIBRARY OpenBLASPthread_INCLUDE_DIR
    REASON_FAILURE_MESSAGE "install libopenblas-pthread-dev")
if(OpenBLASPthread_FOUND AND NOT TARGET OpenBLAS::pthread)
    add_library(OpenBLAS::pthread UNKNOWN IMPORTED)
    set_target_properties(OpenBLAS::pthread PROPERTIES
        IMPORTED_LOCATION "${OpenBLASPthread_LIBRARY}"
        INTERFACE_INCLUDE_DIRECTORIES "${OpenBLASPthread_INCLUDE_DIR}")
endif()
