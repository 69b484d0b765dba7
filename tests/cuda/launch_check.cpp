// What the host side of the CUDA kernels refuses, and that it says why. Needs the toolkit, no
// device.
#include <catch2/catch.hpp>

#include <vector>

#include "kernels/cuda/launch.h"
#include "tests/support.h"

namespace mi::kernels::cuda {
namespace {

bool refused(const Status& status, Code code, const std::string& text) {
  INFO(status.what);
  CHECK(status.code == code);
  CHECK(status.what.find(text) != std::string::npos);
  return status.code == code;
}

TEST_CASE("a sequence that the kernel cannot read is refused") {
  alignas(16) bf16 rows[16] = {};
  Sequence<bf16> good{{rows, 8, 8}, {rows, 8, 8}, {rows, 8, 8}, {rows, 8, 8}, nullptr, 0, 1, 2};
  CHECK(check_sequence(good));
  const auto with = [&](auto change) {
    Sequence<bf16> changed = good;
    change(changed);
    return check_sequence(changed);
  };
  refused(with([](auto& s) { s.n_q = 0; }), Code::invalid_argument, "n_q 0");
  refused(with([](auto& s) { s.n_q = 3; }), Code::invalid_argument, "n_kv 2");
  refused(with([](auto& s) { s.n_kv = int64_t{1} << 31; }), Code::invalid_argument, "2147483647");
  refused(with([](auto& s) { s.k.data = nullptr; }), Code::invalid_argument, "k: ");
  refused(with([](auto& s) { s.v.data += 1; }), Code::unsupported, "v: ");
  refused(with([](auto& s) { s.o.token_stride = 12; }), Code::unsupported, "12 (token)");
}

TEST_CASE("a launch that no kernel can do is refused before a device is looked for") {
  AttendCall<f16> call;
  refused(launch_attend(call, 1, 72, nullptr), Code::unsupported, "64, 80, 96, 128, 256");
  refused(launch_attend(call, -1, 64, nullptr), Code::invalid_argument, "items: got -1");
  call.heads_per_kv = 0;
  refused(launch_attend(call, 1, 64, nullptr), Code::invalid_argument, "heads_per_kv: got 0");
  call.heads_per_kv = 1;
  call.softcap = -1;
  refused(launch_attend(call, 1, 64, nullptr), Code::invalid_argument, "softcap: got -1");
  refused(launch_stripes(StripeCall<f16>{}, 1, 72, nullptr), Code::unsupported, "72");
  refused(launch_index({.size = {.blocks = -1}}, nullptr), Code::invalid_argument,
          "row blocks: got -1");
}

TEST_CASE("without a device a launch says so") {
  const Status status = launch_attend(AttendCall<bf16>{}, 0, 64, nullptr);
  if (status) MI_SKIP("this machine has a CUDA device");
  refused(status, Code::device, "CUDA device: ");
  refused(status, Code::device, "CUDA error");
  refused(launch_index({}, nullptr), Code::device, "CUDA error");
}

}  // namespace
}  // namespace mi::kernels::cuda
