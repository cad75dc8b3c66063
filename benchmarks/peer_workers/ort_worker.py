"""ONNX Runtime's own tools; a setting is ``static``, ``dynamic`` or one of these and a best one."""

from __future__ import annotations

from peers_ort import DYNAMIC_SETTINGS, STATIC_SETTINGS, ort_dynamic, ort_static, pre_processed

from peer_workers.job import read_job


def main() -> None:
    """Quantizes the model of the job."""
    job = read_job()
    tool, _, best = job.setting.partition(": ")
    # The defaults are for those who read no further; the best settings follow all advice.
    fp32 = job.fp32.read_bytes()
    ready = pre_processed(fp32) if best else fp32
    if tool == "static":
        made = ort_static(ready, job.rows, **(STATIC_SETTINGS[best] if best else {}))
    else:
        made = ort_dynamic(ready, **(DYNAMIC_SETTINGS[best] if best else {}))
    job.int8.write_bytes(made)


if __name__ == "__main__":
    main()
