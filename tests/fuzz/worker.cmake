# Foreign bytes that a worker reads: weight files and config.json.
hdl_fuzz(fuzz_safetensors
  SOURCES ${CMAKE_CURRENT_LIST_DIR}/fuzz_safetensors.c
  DEPS heddle_worker heddle_base
  CORPUS safetensors)
hdl_fuzz(fuzz_model_config
  SOURCES ${CMAKE_CURRENT_LIST_DIR}/fuzz_model_config.c
  DEPS heddle_worker heddle_base
  CORPUS model_config)
# Their keys, as GGUF's.
hdl_fuzz(fuzz_model_gguf
  SOURCES ${CMAKE_CURRENT_LIST_DIR}/fuzz_model_gguf.c
  DEPS heddle_worker heddle_base
  CORPUS model_gguf)
hdl_fuzz(fuzz_st_quant
  SOURCES ${CMAKE_CURRENT_LIST_DIR}/fuzz_st_quant.c
  DEPS heddle_worker heddle_kernels heddle_base
  CORPUS st_quant)
