# MI_ENABLE_CUDA says whether kernels/cuda is built; MI_CUDA whether it is, MI_CUBLAS whether its
# products are, too.
set(MI_ENABLE_CUDA AUTO CACHE STRING "CUDA kernels: AUTO (where a CUDA compiler is found), ON, OFF")
set_property(CACHE MI_ENABLE_CUDA PROPERTY STRINGS AUTO ON OFF)
if(NOT MI_ENABLE_CUDA MATCHES "^(AUTO|ON|OFF)$")
  message(FATAL_ERROR "MI_ENABLE_CUDA: got \"${MI_ENABLE_CUDA}\", expected AUTO, ON or OFF")
endif()

set(MI_CUDA OFF)
set(MI_CUBLAS OFF)
if(NOT MI_ENABLE_CUDA STREQUAL "OFF")
  # Set before the language is enabled, which else takes the compiler's own default. Machine code of 80
  # runs on all of 8.x, that of 90a on 9.0 alone. The driver compiles PTX of 80 for what lies between
  # 9.0 and 12.0 (10.0, 10.3, 11.0), and PTX of 120 for what comes after.
  if(NOT DEFINED CMAKE_CUDA_ARCHITECTURES)
    set(CMAKE_CUDA_ARCHITECTURES 80 90a-real 120-virtual CACHE STRING "CUDA architectures")
  endif()
  if(NOT DEFINED CMAKE_CUDA_COMPILER_LAUNCHER AND DEFINED CMAKE_CXX_COMPILER_LAUNCHER)
    set(CMAKE_CUDA_COMPILER_LAUNCHER ${CMAKE_CXX_COMPILER_LAUNCHER})
  endif()
  include(CheckLanguage)
  check_language(CUDA)
  if(CMAKE_CUDA_COMPILER)
    enable_language(CUDA)
    find_package(CUDAToolkit REQUIRED)
    # CMake 3.25 does not know that nvcc has had C++20 since 12.0.
    if(NOT DEFINED CMAKE_CUDA20_STANDARD_COMPILE_OPTION)
      set(CMAKE_CUDA20_STANDARD_COMPILE_OPTION -std=c++20)
    endif()
    set(MI_CUDA ON)
    if(TARGET CUDA::cublas)
      set(MI_CUBLAS ON)
    endif()
  elseif(MI_ENABLE_CUDA STREQUAL "ON")
    message(FATAL_ERROR "MI_ENABLE_CUDA is ON and no CUDA compiler was found. Put nvcc on the PATH, "
      "set CMAKE_CUDA_COMPILER or CUDACXX to it, or build without: -DMI_ENABLE_CUDA=OFF")
  endif()
endif()
