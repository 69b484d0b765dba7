// Uses the installed package as a serving engine does: loads a head-config, shows what it holds,
// makes a plan for one shape and runs every layer on made-up q, k, v.
#include <cstdint>
#include <cstdio>
#include <map>
#include <string>
#include <vector>

#include "kernels/backend.h"
#include "kernels/tensor_view.h"
#include "libruntime/config.h"
#include "libruntime/plan.h"
#ifdef CONSUMER_HAS_CUDA
#include "libruntime/cuda/device_plan.h"
#endif

namespace {

int give_up(const mi::Status& status) {
  std::fprintf(stderr, "consumer: %s\n", status.what.c_str());
  return 1;
}

void print_mix(const mi::runtime::HeadConfig& config) {
  std::map<std::string, int> heads;
  for (const auto& layer : config.layers)
    for (const auto& head : layer) ++heads[std::string(to_string(head.pattern))];
  std::printf("%s: %d layers of %d heads\n", config.model.name.c_str(), config.model.layers,
              config.model.heads);
  for (const auto& [pattern, count] : heads) std::printf("  %-22s %d\n", pattern.c_str(), count);
}

// Values that are the same on every machine and differ from place to place.
std::vector<float> made_up(int64_t count, uint64_t seed) {
  std::vector<float> values(static_cast<size_t>(count));
  for (float& value : values) {
    seed = seed * 6364136223846793005u + 1442695040888963407u;
    value = static_cast<float>(seed >> 40) / static_cast<float>(1 << 23) - 1.0f;
  }
  return values;
}

}  // namespace

int main(int argc, char** argv) {
  if (argc != 2) {
    std::fprintf(stderr, "usage: consumer CONFIG\n");
    return 2;
  }
  const auto config = mi::runtime::load_config(argv[1]);
  if (!config) return give_up(config.error());
  print_mix(*config);

  const auto backend = mi::kernels::choose_backend();
  if (!backend) return give_up(backend.error());
  constexpr int64_t kTokens = 512;
  const int heads = config->model.heads;
  const int kv_heads = config->model.kv_heads;
  const int dim = config->model.head_dim;
  mi::runtime::PlanShape shape;
  shape.n_q = shape.n_kv = kTokens;
  shape.heads = heads;
  shape.kv_heads = kv_heads;
  shape.head_dim = dim;
  const auto plan = mi::runtime::Plan::make(*config, shape, **backend);
  if (!plan) return give_up(plan.error());
  for (const std::string& note : plan->notes()) std::printf("note: %s\n", note.c_str());

#ifdef CONSUMER_HAS_CUDA
  mi::runtime::PlanShape of_device = shape;
  of_device.element = mi::runtime::Element::bf16;
  const auto device_plan = mi::runtime::DevicePlan::make(*config, of_device);
  if (device_plan)
    std::printf("on a device: %zu bytes of tables, %zu of workspace\n", device_plan->table_bytes(),
                device_plan->workspace_bytes());
  else
    std::printf("on a device: %s\n", device_plan.error().what.c_str());
#endif

  const std::vector<float> q = made_up(heads * kTokens * dim, 1);
  const std::vector<float> k = made_up(kv_heads * kTokens * dim, 2);
  const std::vector<float> v = made_up(kv_heads * kTokens * dim, 3);
  std::vector<float> o(q.size());
  mi::AlignedBuffer<char> workspace(plan->workspace_bytes());
  std::vector<mi::runtime::HeadStats> stats(static_cast<size_t>(heads));
  mi::runtime::Unspent unspent;
  for (int layer = 0; layer < plan->layers(); ++layer) {
    const mi::Status status =
        plan->run(layer, {q.data(), {heads, kTokens, dim}}, {k.data(), {kv_heads, kTokens, dim}},
                  {v.data(), {kv_heads, kTokens, dim}}, {o.data(), {heads, kTokens, dim}}, {},
                  workspace.data(), stats, unspent);
    if (!status) return give_up(status);
    double share = 0;
    for (const auto& head : stats) share += head.share / heads;
    std::printf("layer %d: ran %.1f %% of dense attention\n", layer, 100 * share);
  }
  return 0;
}
