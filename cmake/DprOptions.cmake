# Compiler settings of every target, and dpr_room(): one static library per room.

add_library(dpr_options INTERFACE)
target_include_directories(dpr_options INTERFACE ${CMAKE_CURRENT_SOURCE_DIR})
target_compile_definitions(dpr_options INTERFACE _GNU_SOURCE)
set(is_c $<COMPILE_LANGUAGE:C>)
set(is_cxx $<COMPILE_LANGUAGE:CXX>)
set(is_cuda $<COMPILE_LANGUAGE:CUDA>)
target_compile_options(dpr_options INTERFACE
    "$<${is_c}:-Wall;-Wextra;-Wshadow;-Wstrict-prototypes;-Wconversion;-fno-omit-frame-pointer>"
    "$<${is_cxx}:-Wall;-Wextra;-Wshadow;-Wconversion;-fno-omit-frame-pointer>"
    $<${is_cuda}:-Xcompiler=-Wall,-Wextra,-Wshadow>)
target_link_libraries(dpr_options INTERFACE m)
if(DPR_WERROR)
    target_compile_options(dpr_options INTERFACE
        $<${is_c}:-Werror> $<${is_cxx}:-Werror> "$<${is_cuda}:-Werror=all-warnings;-Xcompiler=-Werror>")
endif()
if(DPR_SANITIZE)
    target_compile_options(dpr_options INTERFACE
        $<${is_c}:-fsanitize=${DPR_SANITIZE}> $<${is_cxx}:-fsanitize=${DPR_SANITIZE}>)
    target_link_options(dpr_options INTERFACE -fsanitize=${DPR_SANITIZE})
endif()
# Assertions guard invariants and stay on in every build type.
string(REPLACE "-DNDEBUG" "" CMAKE_C_FLAGS_RELEASE "${CMAKE_C_FLAGS_RELEASE}")
string(REPLACE "-DNDEBUG" "" CMAKE_C_FLAGS_RELWITHDEBINFO "${CMAKE_C_FLAGS_RELWITHDEBINFO}")

function(dpr_room name)
    cmake_parse_arguments(ROOM "" "" "SOURCES;USES" ${ARGN})
    add_library(dpr_${name} STATIC ${ROOM_SOURCES})
    target_link_libraries(dpr_${name} PUBLIC dpr_options)
    foreach(used ${ROOM_USES})
        target_link_libraries(dpr_${name} PUBLIC dpr_${used})
    endforeach()
endfunction()
