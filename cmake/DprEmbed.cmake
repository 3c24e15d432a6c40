# dpr_embed(TARGET FILE SYMBOL): puts a file into a target as `const unsigned char SYMBOL[]`, and its
# length as `const size_t SYMBOL_size`. Run as a script it writes the C file.
if(CMAKE_SCRIPT_MODE_FILE)
    file(READ ${INPUT} bytes HEX)
    string(LENGTH "${bytes}" digits)
    math(EXPR size "${digits} / 2")
    string(REGEX REPLACE "([0-9a-f][0-9a-f])" "0x\\1," bytes "${bytes}")
    file(WRITE ${OUTPUT} "#include <stddef.h>\nextern const unsigned char ${SYMBOL}[];\n"
        "extern const size_t ${SYMBOL}_size;\n"
        "const unsigned char ${SYMBOL}[] = {${bytes}0};\nconst size_t ${SYMBOL}_size = ${size};\n")
    return()
endif()
set(DPR_EMBED_SCRIPT ${CMAKE_CURRENT_LIST_FILE})
function(dpr_embed target file symbol)
    set(output ${CMAKE_CURRENT_BINARY_DIR}/${symbol}.c)
    add_custom_command(OUTPUT ${output}
        COMMAND ${CMAKE_COMMAND} -DINPUT=${CMAKE_CURRENT_SOURCE_DIR}/${file} -DOUTPUT=${output}
            -DSYMBOL=${symbol} -P ${DPR_EMBED_SCRIPT}
        DEPENDS ${CMAKE_CURRENT_SOURCE_DIR}/${file} ${DPR_EMBED_SCRIPT} VERBATIM)
    target_sources(${target} PRIVATE ${output})
endfunction()
