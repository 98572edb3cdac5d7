# cmake --install build/release --prefix /usr
#
# Programs, systemd units (ExecStart follows the prefix), the user's sysusers.d file, example configuration and the
# bundled model. Nothing in the configuration folder is overwritten: examples go beside the documentation.
include(GNUInstallDirs)

install(TARGETS heddle heddle-scheduler heddle-worker RUNTIME DESTINATION ${CMAKE_INSTALL_BINDIR})

foreach(unit heddle-scheduler.service heddle-worker@.service)
  install(CODE "
    file(READ \"${CMAKE_SOURCE_DIR}/deploy/systemd/${unit}\" text)
    string(REPLACE \"/usr/bin/\" \"\${CMAKE_INSTALL_PREFIX}/${CMAKE_INSTALL_BINDIR}/\" text \"\${text}\")
    file(WRITE \"${CMAKE_BINARY_DIR}/units/${unit}\" \"\${text}\")")
  install(FILES ${CMAKE_BINARY_DIR}/units/${unit} DESTINATION lib/systemd/system)
endforeach()
install(FILES deploy/systemd/heddle.sysusers DESTINATION lib/sysusers.d RENAME heddle.conf)

install(FILES deploy/config/heddle.yaml deploy/config/scheduler.yaml deploy/config/worker.yaml
  deploy/systemd/heddle-sovereign.conf README.md LICENSE
  DESTINATION ${CMAKE_INSTALL_DATADIR}/doc/heddle)
install(DIRECTORY deploy/demo-model/ DESTINATION ${CMAKE_INSTALL_DATADIR}/heddle/demo-model
  FILES_MATCHING PATTERN "*.json" PATTERN "*.safetensors" PATTERN "README.md")
