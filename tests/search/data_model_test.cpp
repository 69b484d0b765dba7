// Samples with the quick start's real tokenizer: whether our texts are long enough, and questions
// that the model is known to answer.
#include <catch2/catch.hpp>

#include <cstdlib>
#include <filesystem>
#include <string>

#include "libsearch/data/sample.h"
#include "libsearch/model/model.h"
#include "tests/search/model_support.h"
#include "tests/support.h"

namespace mi::search {

TEST_CASE("the default recipe is long enough for the quick start's model", "[model]") {
  if (smollm2_path().empty()) MI_SKIP("no SmolLM2 GGUF (MI_MODEL)");
  const auto model = Model::open(smollm2_path());
  REQUIRE(model);
  const Tokenizer* tokenizer = (*model)->tokenizer();
  REQUIRE(tokenizer != nullptr);
  const auto recipe =
      load_recipe(std::filesystem::path(MI_SOURCE_DIR) / "calib_data" / "default.yaml");
  REQUIRE(recipe);
  for (const auto* specs : {&recipe->calibration, &recipe->held_out})
    for (const SampleSpec& spec : *specs)
      for (const int64_t length : recipe->lengths) {
        const auto sample = make_sample(spec, length, 0, *tokenizer);
        INFO((sample ? "" : sample.error().what));
        REQUIRE(sample);
        CHECK(sample->length() == length);
        const auto answer = tokenizer->decode(
            std::span(sample->ids).subspan(static_cast<size_t>(sample->answer_begin)));
        REQUIRE(answer);
        if (spec.kind == "needle") CHECK(answer->size() == 6);
        if (spec.kind == "kv_retrieval") CHECK(answer->size() == 36);
      }
}

}  // namespace mi::search
