#include "kernels/status.h"

namespace mi {

std::string_view to_string(Code code) {
  switch (code) {
    case Code::ok:
      return "ok";
    case Code::invalid_argument:
      return "invalid argument";
    case Code::unsupported:
      return "unsupported";
    case Code::io:
      return "io";
    case Code::schema:
      return "schema";
    case Code::out_of_memory:
      return "out of memory";
    case Code::device:
      return "device";
    case Code::internal:
      return "internal";
  }
  return "unknown";
}

}  // namespace mi
