# Fuzz targets of scheduler/text.
foreach(name tokenizer_json tekken tiktoken gguf_vocab text template renderers)
  hdl_fuzz(fuzz_${name} SOURCES ${CMAKE_CURRENT_SOURCE_DIR}/fuzz/fuzz_${name}.c DEPS heddle_text heddle_base CORPUS ${name})
endforeach()
# This one reads a golden tokenizer.
foreach(target fuzz_text fuzz_text_replay)
  if(TARGET ${target})
    target_compile_definitions(${target} PRIVATE HDL_SOURCE_DIR="${CMAKE_SOURCE_DIR}")
  endif()
endforeach()
