// What the library of cuda.cpp has to offer. `CudaFunctions` in ffi.rs has the same members, in the same order.
#pragma once

#include <cstddef>
#include <cstdint>

struct te_graph;
struct te_process_group;
struct te_store;

struct te_device_properties {
  char name[256];
  int32_t major, minor, multiprocessors;
  uint64_t total_memory;
  unsigned char uuid[16];
};

struct te_cuda {
  size_t size;  // of this struct: that of another build is refused
  char* (*process_group_nccl)(te_store*, int rank, int size, int device, int64_t timeout_ms, te_process_group** out);
  char* (*process_group_abort)(te_process_group*);
  char* (*own_stream)(int device);
  char* (*refuse_waits)(bool refused);
  char* (*graph_begin)(te_graph** out);
  char* (*graph_end)(te_graph*);
  char* (*graph_replay)(te_graph*);
  void (*graph_free)(te_graph*);
  char* (*device_properties)(int device, te_device_properties* out);
};
