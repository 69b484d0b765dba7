// Where every head's attention mass lies in one sample, and what its pattern takes of it, coarse
// enough to be looked at: the pictures of the report.
#pragma once

#include <array>
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "kernels/status.h"
#include "kernels/tensor_view.h"
#include "libruntime/config.h"
#include "libsearch/data/sample.h"
#include "libsearch/model/model.h"

namespace mi::search {

struct ComputeOptions;

// Rows and columns of a picture at most; shorter samples have one per row block.
inline constexpr int64_t kPictureCells = 64;

struct HeadPictures {
  std::string source;  // of the sample
  int64_t tokens = 0;
  int64_t cells = 0;
  runtime::HeadConfig config;  // what the heads ran by
  // By plane: [layers, heads, cells, cells], rows of queries by columns of keys; 0 past the
  // diagonal.
  enum Plane {
    mass,   // on a cell's keys, mean over its rows: a row of cells sums to 1
    lost,   // of it, on keys that the pattern leaves out
    taken,  // keys attended, as a fraction of the cell's causal ones
  };
  static constexpr std::array<std::string_view, 3> kNames = {"mass", "lost", "taken"};
  std::array<std::vector<float>, kNames.size()> planes;
};

// Draws layer by layer during a forward pass. Share caps are not applied: what they add to a
// threshold depends on what other heads spend.
class PictureTaker {
 public:
  // options must outlive it. Errors: a config that finds its thresholds at run time, as it does
  // outside its calibrated lengths.
  [[nodiscard]] static Result<PictureTaker> make(const runtime::HeadConfig& config,
                                                 const Sample& sample,
                                                 const ComputeOptions& options);
  // lse [heads, tokens] of dense attention on these q and k.
  void draw(const LayerQkv& layer, TensorView<const float, 2> lse);
  [[nodiscard]] HeadPictures take() { return std::move(pictures_); }

 private:
  explicit PictureTaker(const ComputeOptions& options) : options_(&options) {}
  const ComputeOptions* options_;
  HeadPictures pictures_;
};

}  // namespace mi::search
