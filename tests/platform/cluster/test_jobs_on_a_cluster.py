import pytest

from advseg.platform.cluster.submit import KnownJob, choose_id
from advseg.trainers.errors import UserError


def job(id: str, digest: str = "old", *, active: bool = False) -> KnownJob:
    return KnownJob(id=id, active=active, digest=digest)


class TestSubmissionId:
    def test_is_the_first_of_a_new_name(self) -> None:
        assert choose_id("probe", "d", []) == ("probe-1", True)

    def test_is_the_running_jobs_if_it_is_the_same(self) -> None:
        known = [job("probe-1"), job("probe-2", "d", active=True)]
        assert choose_id("probe", "d", known) == ("probe-2", False)

    def test_is_a_new_one_once_the_same_job_has_ended(self) -> None:
        assert choose_id("probe", "d", [job("probe-1", "d"), job("probe-10")]) == ("probe-11", True)

    def test_is_refused_while_another_job_of_the_name_runs(self) -> None:
        with pytest.raises(
            UserError, match=r"job probe-3 .* another spec: stop it by `advseg job stop probe-3` .*probe-2$"
        ):
            choose_id("probe", "d", [job("probe-3", "other", active=True)])

    def test_heeds_no_job_of_another_name(self) -> None:
        others = [job("probe-x-4", active=True), job("prob-5", active=True), job("", active=True), job("probe-a")]
        assert choose_id("probe", "d", others) == ("probe-1", True)
        assert choose_id("probe-x", "d", [job("probe-7")]) == ("probe-x-1", True)
