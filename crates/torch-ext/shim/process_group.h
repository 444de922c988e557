// What the parts of the shim that communicate share.
#pragma once

#include "shim.h"

#include <torch/csrc/distributed/c10d/ProcessGroup.hpp>

struct te_process_group {
  c10::intrusive_ptr<c10d::ProcessGroup> group;
};
