// The Backend object of one instruction set; included last in its region. The including file
// defines kName and missing_instruction().

class CpuBackend final : public Backend {
 public:
  [[nodiscard]] std::string_view name() const override { return kName; }
  [[nodiscard]] Status available() const override {
    const char* missing = missing_instruction();
    if (missing == nullptr) return {};
    return fail(Code::unsupported, std::string("backend ") + kName + ": this CPU lacks " + missing);
  }
  [[nodiscard]] size_t scratch_bytes(int head_dim) const override {
    return static_cast<size_t>(block_scratch_floats(head_dim)) * sizeof(float);
  }
  int64_t attend(const AttentionHead& head, int64_t block, const uint64_t* keys, float* o,
                 int64_t o_stride, float* lse, void* scratch) const override {
    return attend_block(head, block, keys, o, o_stride, lse, scratch);
  }
  void probabilities(const ProbabilityRows& rows, void* scratch) const override {
    probability_rows(rows, scratch);
  }
  [[nodiscard]] uint64_t above(const float* e, int64_t count, float threshold) const override {
    if (count < 64) return Backend::above(e, count, threshold);
    const Vec limit = Isa::set1(threshold);
    uint64_t bits = 0;
    for (int j = 0; j < 64; j += Isa::kLanes)
      bits |= static_cast<uint64_t>(Isa::greater(Isa::load(e + j), limit)) << j;
    return bits;
  }
  void score(const ScoreBlock& block, void* scratch) const override {
    score_block<WideProducts>(block, scratch);
  }
  [[nodiscard]] size_t score_scratch_bytes(int head_dim, int64_t n_kv,
                                           int most_levels) const override {
    return score_scratch_bytes_of<WideProducts>(head_dim, n_kv, most_levels);
  }
};
