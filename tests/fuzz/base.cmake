# Readers of foreign text in base/.
hdl_fuzz(fuzz_base_json SOURCES ${CMAKE_CURRENT_LIST_DIR}/fuzz_base_json.c DEPS heddle_base
  CORPUS base_json)
hdl_fuzz(fuzz_base_yaml SOURCES ${CMAKE_CURRENT_LIST_DIR}/fuzz_base_yaml.c DEPS heddle_base
  CORPUS base_yaml)
hdl_fuzz(fuzz_gguf SOURCES ${CMAKE_CURRENT_LIST_DIR}/fuzz_gguf.c DEPS heddle_base CORPUS gguf)
