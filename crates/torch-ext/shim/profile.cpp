// What a device spends its time on, as libtorch's profiler sees it.

#include "shim.h"

#include <torch/csrc/autograd/profiler_kineto.h>

#include <cstdio>
#include <map>
#include <string>

extern "C" {

// Begins to note what is computed: by a GPU if `cuda`, else which operations the CPU is given.
char* te_profile_begin(bool cuda) {
  TE_CATCH({
    using namespace torch::profiler::impl;
    const ProfilerConfig config(ProfilerState::KINETO);
    std::set<ActivityType> activities{ActivityType::CPU};
    if (cuda) activities.insert(ActivityType::CUDA);
    torch::autograd::profiler::prepareProfiler(config, activities);
    torch::autograd::profiler::enableProfiler(config, activities);
  })
}

// Ends it: for each name, which the caller frees with te_free_message, a line of nanoseconds, count and name.
char* te_profile_end(bool cuda, char** out) {
  TE_CATCH({
    const auto result = torch::autograd::profiler::disableProfiler();
    std::map<std::string, std::pair<uint64_t, uint64_t>> all;
    for (const auto& event : result->events()) {
      if ((event.deviceType() == c10::DeviceType::CUDA) != cuda) continue;
      if (cuda && event.name().rfind("nccl:", 0) == 0) continue;  // what c10d says around its kernels
      auto& [nanoseconds, count] = all[event.name()];
      nanoseconds += event.durationNs();
      ++count;
    }
    std::string text;
    for (const auto& [name, spent] : all) {
      text += std::to_string(spent.first) + ' ' + std::to_string(spent.second) + ' ' + name + '\n';
    }
    *out = strdup(text.c_str());
  })
}

}  // extern "C"
