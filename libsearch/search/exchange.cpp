#include "libsearch/search/exchange.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <limits>
#include <optional>
#include <random>
#include <tuple>

namespace mi::search {
namespace {

// With 64 SmolLM2's loss at 15 % is 2e-6 of it lower.
constexpr size_t kOptions = 32;
constexpr double kFull = 1 + 5e-13;      // of a row: sums are rounded
constexpr double kLeastRepair = 0.01;    // of the overload, that a step back takes away
constexpr double kLeastExchange = 1e-6;  // of the loss, that an exchange saves
// Of the loss, all heads together, that is given up for what costs less: where the limits leave
// room, the loss's own rounding would decide.
constexpr double kIndifferent = 1e-6;
// Annealing. Exchanges of pairs alone stop at 1.6e-3 of the loss above the bound for SmolLM2's 270
// heads at 15 %, where six samples' limits bind at once; a solver of integer programs shows that
// 2e-4 is possible. The narrow runs end at 3e-4 to 9e-4, in 0.1 s each, and the wide ones at 6e-4
// to 1.2e-3; at 12.5 % the options of the narrow ones do not fit together.
constexpr uint64_t kRuns = 6;
constexpr std::array kWidest = {3e-5, 1e-4};  // of the bound, in turn: excess of an option at most
constexpr size_t kStepsPerHead = 4000;
constexpr double kHot = 0.1;          // of the bound, divided by heads: temperature at first
constexpr double kCold = 1e-3;        // likewise, at last
constexpr double kOverload = 1.5;     // price of a row's overload, of what room in it is worth
constexpr double kLeastPrice = 0.03;  // of the highest price: what a row's room is worth at least

// What a head may run: a candidate of one family at every length.
struct Option {
  double excess = 0;  // of its loss and price over the head's least
  double loss = 0;
  double cost = 0;                 // sum over rows
  std::vector<size_t> candidates;  // [lengths]
};

class Exchange {
 public:
  Exchange(const Knapsack& knapsack, const Prices& prices, const Assignment& feasible)
      : knapsack_(knapsack), prices_(prices) {
    for (size_t h = 0; h < knapsack.heads; ++h) {
      auto& options = options_.emplace_back(best_options(h));
      Option own;
      for (size_t t = 0; t < knapsack.lengths(); ++t) extend(own, h, t, feasible[t][h]);
      const auto same = [&](const Option& o) { return o.candidates == own.candidates; };
      const auto found = std::find_if(options.begin(), options.end(), same);
      feasible_.push_back(static_cast<size_t>(found - options.begin()));
      if (found == options.end()) options.push_back(std::move(own));
      const double least = options.front().excess;
      auto& costs = costs_.emplace_back();
      for (Option& option : options) {
        option.excess -= least;
        for (size_t t = 0; t < knapsack.lengths(); ++t) {
          const auto at_length = knapsack.costs_of(t, h, option.candidates[t]);
          costs.insert(costs.end(), at_length.begin(), at_length.end());
        }
      }
    }
  }

  Assignment run() {
    start(std::vector<size_t>(knapsack_.heads, 0));
    if (!repair()) start(feasible_);
    while (improve()) {
    }
    std::vector<size_t> best = at_;
    double least = loss();
    for (uint64_t seed = 0; seed < kRuns && least > (1 + kLeastExchange) * prices_.bound; ++seed) {
      start(std::vector<size_t>(knapsack_.heads, 0));
      anneal(seed, kWidest[seed % kWidest.size()] * prices_.bound);
      if (!repair()) continue;
      while (improve()) {
      }
      if (loss() >= least) continue;
      least = loss();
      best = at_;
    }
    start(std::move(best));
    save();
    Assignment assignment(knapsack_.lengths());
    for (size_t h = 0; h < knapsack_.heads; ++h)
      for (size_t t = 0; t < knapsack_.lengths(); ++t)
        assignment[t].push_back(options_[h][at_[h]].candidates[t]);
    return assignment;
  }

 private:
  struct Move {
    size_t head = 0;
    size_t option = 0;
  };

  void extend(Option& option, size_t head, size_t length, size_t candidate) const {
    option.loss += knapsack_.loss_of(length, head, candidate);
    option.excess += knapsack_.value(length, head, candidate, prices_.of_rows);
    for (const double cost : knapsack_.costs_of(length, head, candidate)) option.cost += cost;
    option.candidates.push_back(candidate);
  }

  // The best of what a head may run. The beginnings of the best are among the best beginnings.
  [[nodiscard]] std::vector<Option> best_options(size_t head) const {
    std::vector<Option> all;
    for (const auto& family : knapsack_.families) {
      std::vector<Option> partial{Option{}};
      for (size_t t = 0; t < knapsack_.lengths(); ++t) {
        std::vector<Option> longer;
        for (const Option& begun : partial)
          for (const size_t c : family)
            if (std::isfinite(knapsack_.loss_of(t, head, c)))
              extend(longer.emplace_back(begun), head, t, c);
        keep_best(longer);
        partial = std::move(longer);
      }
      all.insert(all.end(), partial.begin(), partial.end());
    }
    keep_best(all);
    return all;
  }
  // Of options that are the same on all samples the first, which has the higher thresholds: on
  // texts not seen it takes no more than its cap, and raises no other head's threshold by that.
  // (SmolLM2 at 10 %, two texts: KL 0.19 with the highest of equal thresholds, 0.31 with any.)
  static void keep_best(std::vector<Option>& options) {
    std::sort(options.begin(), options.end(), [](const Option& a, const Option& b) {
      return std::tie(a.excess, a.cost, a.candidates) < std::tie(b.excess, b.cost, b.candidates);
    });
    const auto same = [](const Option& a, const Option& b) {
      return a.excess == b.excess && a.cost == b.cost && a.loss == b.loss;
    };
    options.erase(std::unique(options.begin(), options.end(), same), options.end());
    if (options.size() > kOptions) options.resize(kOptions);
  }

  [[nodiscard]] const Option& now(size_t head) const { return options_[head][at_[head]]; }
  [[nodiscard]] const double* costs(size_t head, size_t option) const {
    return costs_[head].data() + option * knapsack_.rows();
  }

  [[nodiscard]] double loss() const {
    double sum = 0;
    for (size_t h = 0; h < knapsack_.heads; ++h) sum += now(h).loss;
    return sum;
  }
  void start(std::vector<size_t> at) {
    at_ = std::move(at);
    used_.assign(knapsack_.rows(), 0);
    for (size_t h = 0; h < knapsack_.heads; ++h)
      for (size_t k = 0; k < used_.size(); ++k) used_[k] += costs(h, at_[h])[k];
  }
  void make(Move move) {
    const double* from = costs(move.head, at_[move.head]);
    const double* to = costs(move.head, move.option);
    for (size_t k = 0; k < used_.size(); ++k) used_[k] += to[k] - from[k];
    at_[move.head] = move.option;
  }

  // Moves that cost least excess for the overload they take away, until every row fits.
  bool repair() {
    for (;;) {
      double over = 0;
      for (const double used : used_) over += std::max(0.0, used - kFull);
      if (over == 0) return true;
      double best = std::numeric_limits<double>::infinity();
      Move move;
      for (size_t h = 0; h < knapsack_.heads; ++h) {
        for (size_t i = 0; i < options_[h].size(); ++i) {
          double left = 0;
          for (size_t k = 0; k < used_.size(); ++k)
            left += std::max(0.0, used_[k] + costs(h, i)[k] - costs(h, at_[h])[k] - kFull);
          if (left > (1 - kLeastRepair) * over) continue;
          const double rate = (options_[h][i].excess - now(h).excess) / (over - left);
          if (rate >= best) continue;
          best = rate;
          move = {h, i};
        }
      }
      if (std::isinf(best)) return false;
      make(move);
    }
  }

  // Random moves of two heads, or of one, among options of `most` excess, where a row's overload
  // has a price.
  void anneal(uint64_t seed, double most) {
    std::vector<size_t> counts;  // [head] options
    for (const auto& options : options_) {
      const auto wide = std::find_if(options.begin() + 1, options.end(),
                                     [&](const Option& option) { return option.excess > most; });
      counts.push_back(static_cast<size_t>(wide - options.begin()));
    }
    const double highest = *std::max_element(prices_.of_rows.begin(), prices_.of_rows.end());
    std::vector<double> next(used_.size());
    const auto overload = [&](const std::vector<double>& used) {
      double sum = 0;
      for (size_t k = 0; k < used.size(); ++k)
        sum += (prices_.of_rows[k] + kLeastPrice * highest) * std::max(0.0, used[k] - kFull);
      return kOverload * sum;
    };
    std::mt19937_64 random(seed);
    const auto below = [&](size_t n) { return static_cast<size_t>(random() % n); };
    const size_t steps = kStepsPerHead * knapsack_.heads;
    const double cooling = std::pow(kCold / kHot, 1 / static_cast<double>(steps));
    double temperature = kHot * prices_.bound / static_cast<double>(knapsack_.heads);
    double paid = overload(used_);
    for (size_t step = 0; step < steps; ++step, temperature *= cooling) {
      const size_t h = below(knapsack_.heads);
      const size_t g = below(knapsack_.heads);
      const Move move{h, below(counts[h])};
      const Move other{g, below(4) == 0 ? at_[g] : below(counts[g])};
      if (g == h || move.option == at_[h]) continue;
      const double* to = costs(h, move.option);
      const double* from = costs(h, at_[h]);
      const double* other_to = costs(g, other.option);
      const double* other_from = costs(g, at_[g]);
      for (size_t k = 0; k < next.size(); ++k)
        next[k] = used_[k] + to[k] - from[k] + other_to[k] - other_from[k];
      const double pays = overload(next);
      const double rise = options_[h][move.option].loss - now(h).loss +
                          options_[g][other.option].loss - now(g).loss + pays - paid;
      if (rise > 0 && std::exp(-rise / temperature) * 0x1p64 < static_cast<double>(random()))
        continue;
      at_[h] = move.option;
      at_[g] = other.option;
      used_.swap(next);
      paid = pays;
    }
    start(at_);  // sums as they are, without what a million roundings left
  }

  // Each head in turn makes the move that saves most loss, alone or with a move of another head.
  bool improve() {
    bool any = false;
    for (size_t h = 0; h < knapsack_.heads; ++h) {
      double least = -kLeastExchange * prices_.bound;
      std::vector<Move> moves;
      std::vector<double> room(used_.size());
      for (size_t i = 0; i < options_[h].size(); ++i) {
        const double* from = costs(h, at_[h]);
        for (size_t k = 0; k < room.size(); ++k)
          room[k] = kFull - used_[k] - (costs(h, i)[k] - from[k]);
        const double loss = options_[h][i].loss - now(h).loss;
        if (loss < least && *std::min_element(room.begin(), room.end()) >= 0) {
          least = loss;
          moves = {{h, i}};
        }
        if (const auto partner = find_partner(h, i, room, loss, least)) moves = {{h, i}, *partner};
      }
      any = any || !moves.empty();
      for (const Move move : moves) make(move);
    }
    return any;
  }

  // Each head takes the cheapest of what loses no more but for rounding.
  void save() {
    const double nothing = kIndifferent * prices_.bound / static_cast<double>(knapsack_.heads);
    for (size_t h = 0; h < knapsack_.heads; ++h) {
      const double most = now(h).loss + nothing;
      Move move{h, at_[h]};
      for (size_t i = 0; i < options_[h].size(); ++i) {
        const Option& option = options_[h][i];
        if (option.loss > most || option.cost >= options_[h][move.option].cost) continue;
        bool fits = true;
        for (size_t k = 0; k < used_.size(); ++k)
          fits = fits && used_[k] + costs(h, i)[k] - costs(h, at_[h])[k] <= kFull;
        if (fits) move.option = i;
      }
      make(move);
    }
  }

  // The move of another head that fits into `room` and has, with the `loss` of option i of head h,
  // a total below `least`, which it lowers. Loss falls by what prices make of the room that is
  // used up, less the moves' excess, so that options of much excess need no look.
  std::optional<Move> find_partner(size_t h, size_t i, const std::vector<double>& room, double loss,
                                   double& least) const {
    double worth = now(h).excess - options_[h][i].excess;
    for (size_t k = 0; k < used_.size(); ++k) worth += prices_.of_rows[k] * (kFull - used_[k]);
    std::optional<Move> found;
    for (size_t g = 0; g < knapsack_.heads; ++g) {
      if (g == h) continue;
      const double* from = costs(g, at_[g]);
      const auto& options = options_[g];
      const double most = worth + now(g).excess;
      for (size_t j = 0; j < options.size() && options[j].excess < most; ++j) {
        const double total = loss + options[j].loss - now(g).loss;
        if (total >= least) continue;
        const double* to = costs(g, j);
        size_t k = 0;
        while (k < room.size() && to[k] - from[k] <= room[k]) ++k;
        if (k < room.size()) continue;
        least = total;
        found = Move{g, j};
      }
    }
    return found;
  }

  const Knapsack& knapsack_;
  const Prices& prices_;
  std::vector<std::vector<Option>> options_;  // [head] by rising excess; what was feasible last
  std::vector<std::vector<double>> costs_;    // [head][options * rows]
  std::vector<size_t> feasible_;              // [head] option
  std::vector<size_t> at_;                    // [head] option
  std::vector<double> used_;                  // [row]
};

}  // namespace

Assignment exchange(const Knapsack& knapsack, const Prices& prices, const Assignment& feasible) {
  return Exchange(knapsack, prices, feasible).run();
}

}  // namespace mi::search
