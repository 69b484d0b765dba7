#include "tools/progress.h"

#include <unistd.h>

#include <algorithm>
#include <cmath>

#include <fmt/format.h>

namespace mi::tools {

std::string duration_text(double seconds) {
  const auto whole = static_cast<int64_t>(std::llround(std::max(0.0, seconds)));
  if (whole < 60) return fmt::format("{} s", whole);
  if (whole < 3600) return fmt::format("{} min {:02} s", whole / 60, whole % 60);
  return fmt::format("{} h {:02} min", whole / 3600, whole / 60 % 60);
}

namespace {

// Of the time left by what was done since `base`, unless that is too little to tell.
std::string left_text(double fraction, double base, double elapsed) {
  constexpr double kLeastDone = 0.05, kLeastSeconds = 5;
  const double done = fraction - base;
  if (done < kLeastDone * (1 - base) || elapsed < kLeastSeconds) return "";
  return duration_text(elapsed * (1 - fraction) / done) + " left";
}

}  // namespace

Progress::Progress() : terminal_(terminal(STDERR_FILENO)), start_(Clock::now()) {}
Progress::~Progress() {
  end_line();
}

void Progress::end_line() {
  if (line_open_) print_note("\n");
  line_open_ = false;
}

void Progress::update(std::string_view stage, double fraction) {
  if (stage != stage_) {
    end_line();
    // The first stage began when this object was made, before its first report.
    if (!stage_.empty()) start_ = Clock::now();
    stage_ = stage;
    base_ = fraction;
    base_time_ = Clock::now();
    last_tenth_ = -1;
  }
  const auto since = [](Clock::time_point time) {
    return std::chrono::duration<double>(Clock::now() - time).count();
  };
  const std::string time =
      fraction >= 1 ? duration_text(since(start_)) : left_text(fraction, base_, since(base_time_));
  if (terminal_.interactive) {
    const int width = std::clamp(terminal_.width - 45, 5, 40);
    const int filled = static_cast<int>(std::lround(fraction * width));
    print_note(fmt::format("\r{:<7} [{:#<{}}{:.<{}}] {:3.0f}%  {:<22}", stage_, "", filled, "",
                           width - filled, 100 * fraction, time));
    line_open_ = true;
    return;
  }
  const int tenth = static_cast<int>(fraction * 10);
  if (tenth == last_tenth_) return;
  last_tenth_ = tenth;
  print_note(
      fmt::format("{} {:.0f}%{}{}\n", stage_, 100 * fraction, time.empty() ? "" : ", ", time));
}

}  // namespace mi::tools
