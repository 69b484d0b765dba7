// What the host side of the CUDA kernels refuses, and that it says why. Needs the toolkit, no
// device.
#include <catch2/catch.hpp>

#include <vector>

#include "kernels/cuda/launch.h"
#include "libruntime/cuda/device_plan.h"
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
  refused(launch_stripes(EstimateCall<f16>{}, 72, nullptr), Code::unsupported, "72");
  refused(launch_index({.size = {.blocks = -1}}, nullptr), Code::invalid_argument,
          "row blocks: got -1");
  refused(launch_select({.num_heads = -1, .shape = {64, 64}}, false, nullptr),
          Code::invalid_argument, "row blocks: got -1");
  refused(launch_norm(NormCall<float>{.rows = -1}, nullptr), Code::invalid_argument, "got -1");
  refused(launch_rotate({.rows = int64_t{1} << 31}, nullptr), Code::invalid_argument, "2147483648");
}

TEST_CASE("without a device a launch says so") {
  const Status status = launch_attend(AttendCall<bf16>{}, 0, 64, nullptr);
  if (status) MI_SKIP("this machine has a CUDA device");
  refused(status, Code::device, "CUDA device: ");
  refused(status, Code::device, "CUDA error");
  refused(launch_index({}, nullptr), Code::device, "CUDA error");
  refused(launch_select({}, false, nullptr), Code::device, "CUDA error");
}

TEST_CASE("a plan is made without a device; running it says that there is none") {
  runtime::HeadConfig config;
  config.model.layers = config.model.heads = config.model.kv_heads = 1;
  config.model.head_dim = 64;
  config.layers = {{runtime::HeadEntry{}}};
  const runtime::PlanShape shape{.n_q = 1,
                                 .n_kv = 2,
                                 .heads = 1,
                                 .kv_heads = 1,
                                 .head_dim = 64,
                                 .element = runtime::Element::bf16};
  const auto plan = runtime::DevicePlan::make(config, shape);
  REQUIRE(plan);
  alignas(256) std::byte memory[256];
  const runtime::DeviceMemory all{memory, memory, reinterpret_cast<double*>(memory), nullptr};
  alignas(16) bf16 rows[128] = {};
  Sequence<bf16> tensors{
      {rows, 64, 64}, {rows, 64, 64}, {rows, 64, 64}, {rows, 64, 64}, nullptr, 0, 0, 0};
  refused(plan->run(1, tensors, all, nullptr), Code::invalid_argument, "layer: got 1");
  refused(plan->run(0, Sequence<f16>{}, all, nullptr), Code::invalid_argument, "q: got a null");
  tensors.o.token_stride = 12;
  refused(plan->run(0, tensors, all, nullptr), Code::unsupported, "o: got strides 12");
  tensors.o.token_stride = 64;
  if (launch_attend(AttendCall<bf16>{}, 0, 64, nullptr)) MI_SKIP("this machine has a CUDA device");
  refused(plan->run(0, tensors, all, nullptr), Code::device, "CUDA error");
  refused(plan->upload(memory, nullptr), Code::device, "CUDA error");
}

}  // namespace
}  // namespace mi::kernels::cuda
