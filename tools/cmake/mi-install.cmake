# What an engine needs: kernels and runtime with their headers, so that
# find_package(mi COMPONENTS runtime) asks for neither HDF5 nor oneDNN nor a model loader.
include(CMakePackageConfigHelpers)

foreach(library kernels runtime)
  install(TARGETS mi_${library} EXPORT mi-runtime-targets COMPONENT runtime
    ARCHIVE DESTINATION ${CMAKE_INSTALL_LIBDIR}
    FILE_SET HEADERS DESTINATION ${CMAKE_INSTALL_INCLUDEDIR}/mi)
  set_target_properties(mi_${library} PROPERTIES EXPORT_NAME ${library})
endforeach()

set(MI_CMAKE_DIR ${CMAKE_INSTALL_LIBDIR}/cmake/mi)
install(EXPORT mi-runtime-targets NAMESPACE mi:: DESTINATION ${MI_CMAKE_DIR} COMPONENT runtime)
configure_package_config_file(${CMAKE_CURRENT_LIST_DIR}/mi-config.cmake.in
  ${PROJECT_BINARY_DIR}/mi-config.cmake INSTALL_DESTINATION ${MI_CMAKE_DIR})
write_basic_package_version_file(${PROJECT_BINARY_DIR}/mi-config-version.cmake
  COMPATIBILITY SameMinorVersion)

# The GPU half, which find_package(mi COMPONENTS runtime cuda) finds with a CUDA toolkit beside it.
if(MI_CUDA)
  foreach(library kernels_cuda runtime_cuda)
    install(TARGETS mi_${library} EXPORT mi-cuda-targets COMPONENT cuda
      ARCHIVE DESTINATION ${CMAKE_INSTALL_LIBDIR}
      FILE_SET HEADERS DESTINATION ${CMAKE_INSTALL_INCLUDEDIR}/mi)
    set_target_properties(mi_${library} PROPERTIES EXPORT_NAME ${library})
  endforeach()
  install(EXPORT mi-cuda-targets NAMESPACE mi:: DESTINATION ${MI_CMAKE_DIR} COMPONENT cuda)
endif()

install(FILES ${PROJECT_BINARY_DIR}/mi-config.cmake ${PROJECT_BINARY_DIR}/mi-config-version.cmake
  DESTINATION ${MI_CMAKE_DIR} COMPONENT runtime)
