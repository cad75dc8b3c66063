# make demo: a fraud model becomes INT8, with a report. make test: all tests. Both set up what they need.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/installed

.PHONY: demo test check configs bench clean

demo: $(STAMP)
	$(BIN)/qtool run configs/fraud_static.yaml

test: $(STAMP)
	$(BIN)/python -m pytest

check: $(STAMP)
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy
	$(BIN)/python docs/update.py --check

configs: $(STAMP)
	for config in configs/*.yaml; do $(BIN)/qtool run $$config --quiet || exit 1; done

# With DATA=DIR also on the real data sets that benchmarks/tabular.py names.
bench: $(STAMP)
	$(BIN)/python benchmarks/tabular.py --json benchmarks/results/tabular_generated.json
	$(if $(DATA),$(BIN)/python benchmarks/tabular.py --data $(DATA) --json benchmarks/results/tabular.json)
	$(if $(DATA),$(BIN)/python benchmarks/qat.py --data $(DATA) --json benchmarks/results/qat.json)
	$(BIN)/python benchmarks/parity.py --json benchmarks/results/parity.json
	$(BIN)/python benchmarks/intervals.py --json benchmarks/results/intervals.json
	$(BIN)/python benchmarks/latency_protocol.py --json benchmarks/results/latency_protocol.json
	$(BIN)/python benchmarks/startup.py --json benchmarks/results/startup.json
	$(BIN)/python benchmarks/blocks.py --json benchmarks/results/blocks.json
	$(BIN)/python benchmarks/calibration.py --json benchmarks/results/calibration.json
	$(BIN)/python benchmarks/peers.py --auto --json benchmarks/results/peers.json
	$(if $(DATA),$(BIN)/python benchmarks/outliers.py --data $(DATA) --auto --json benchmarks/results/outliers.json)
	$(if $(DATA),$(BIN)/python benchmarks/rounding.py --data $(DATA) --json benchmarks/results/rounding.json)
	$(BIN)/python benchmarks/update_docs.py

clean:
	rm -rf $(VENV) runs

$(STAMP): pyproject.toml
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable '.[dev]'
	touch $(STAMP)

# The trained model that configs/fraud_onnx.yaml starts from.
.PHONY: sample-model
sample-model: $(STAMP)
	$(BIN)/qtool quantize configs/fraud_static.yaml --run-dir runs/sample-model --set 'model.arguments.hidden=[128,128]'
	cp runs/sample-model/fp32/model.onnx sample_models/fraud.onnx
	cp runs/sample-model/data/encoder.json sample_models/fraud.encoder.json

# The boosted trees that configs/fraud_student.yaml learns from.
.PHONY: teacher
teacher: $(STAMP)
	$(BIN)/python -m sample_models.teachers configs/fraud_student.yaml
