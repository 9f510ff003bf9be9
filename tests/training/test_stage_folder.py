"""A stage that is done is taken up from its folder, and no other."""

import json

import pandas as pd
import pytest
from safetensors.torch import load_file

from graphssl.encoders import ResNet
from graphssl.errors import RunFolderError
from graphssl.objectives import BYOL
from graphssl.training import Stage
from graphssl.views import Flip


def test_a_chain_that_is_done_is_taken_up_and_no_other(in_stages, general_images, tmp_path, same_weights):
    stages = [Stage("general", general_images, epochs=1), Stage("task", epochs=1)]
    byol = {"objective": BYOL(view=Flip(), width=8, hidden=8), "encoder": ResNet(width=4, blocks=(1, 1), stem="small")}
    first = in_stages(stages, folder=tmp_path, **byol)
    again = in_stages(stages, folder=tmp_path, **byol)
    assert same_weights(first.model, again.model)
    assert same_weights(first.model.with_target_encoder(), again.model.with_target_encoder())
    pd.testing.assert_frame_equal(first.stages, again.stages)
    provenance = json.loads((tmp_path / "2-task" / "provenance.json").read_text(encoding="utf-8"))
    assert provenance["initialisation"] == {"from": "stage general", "weights": first.stages["weights"][0]}
    assert set(load_file(tmp_path / "2-task" / "objective.safetensors")) >= {name for name, _ in first.model.objective.named_parameters()}
    with pytest.raises(RunFolderError, match="Stage 'general': Expected the stage of this chain in .*1-general, found one of another"):
        in_stages([Stage("general", epochs=1)], folder=tmp_path, **byol)
