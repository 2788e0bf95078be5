"""What the pages say, in English and Korean: sentences with places for facts, never facts in sentences."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime

__all__ = ["LANGUAGES", "MESSAGES", "ago", "counted", "language_of", "moment", "say", "span"]

LANGUAGES = ("en", "ko")

MESSAGES: Mapping[str, tuple[str, str]] = {
    # --- the fleet page
    "fleet.title": ("How the sites are", "현장 상태"),
    "fleet.as_of": ("as of {time}", "{time} 기준"),
    "fleet.all_well.one": ("The one site is well.", "현장 1곳이 정상입니다."),
    "fleet.all_well.many": ("All {count} sites are well.", "현장 {count}곳이 모두 정상입니다."),
    "fleet.unwell.one": ("{count} of {total} sites is unwell", "현장 {total}곳 중 이상 {count}곳"),
    "fleet.unwell.many": ("{count} of {total} sites are unwell", "현장 {total}곳 중 이상 {count}곳"),
    "fleet.and_unknown": (", {count} unknown", ", 알 수 없음 {count}곳"),
    "fleet.unknown.one": ("{count} of {total} sites is unknown", "현장 {total}곳 중 알 수 없음 {count}곳"),
    "fleet.unknown.many": ("{count} of {total} sites are unknown", "현장 {total}곳 중 알 수 없음 {count}곳"),
    "fleet.others_well": (", the rest well", ", 나머지 정상"),
    "fleet.empty": ("No site has sent any figures yet.", "아직 수치를 보낸 현장이 없습니다."),
    "fleet.empty_next": (
        (
            "A site appears here once its model was measured on labelled pictures of it, or once its cameras report. "
            "Who keeps this server finds both ways in docs/SITES.md."
        ),
        (
            "라벨이 있는 현장 사진으로 모델을 측정하거나 카메라가 수치를 보내면 현장이 여기에 나타납니다. "
            "두 가지 방법은 docs/SITES.md에 있습니다(서버 관리자용)."
        ),
    ),
    "page.dead": (
        "The figures can't be read at the moment, so nothing is known here.",
        "지금은 수치를 읽을 수 없어 상태를 알 수 없습니다.",
    ),
    "page.dead_next": (
        "Look again in a few minutes. If it stays so, tell who keeps this server what stands below.",
        "몇 분 뒤에 다시 확인하십시오. 계속되면 아래 내용을 서버 관리자에게 알려 주십시오.",
    ),
    "page.details": ("What the computer says", "컴퓨터의 메시지"),
    "page.look_again": ("Look again", "다시 보기"),
    "page.fleet": ("Sites", "현장"),
    "page.optimizer": ("Alerts and advice", "경보와 권고"),
    "page.registry": ("Models", "모델"),
    "page.compare": ("Compare", "비교"),
    # --- states
    "state.well": ("well", "정상"),
    "state.unwell": ("unwell", "이상"),
    "state.unknown": ("unknown", "알 수 없음"),
    # --- why
    "why.broken": ("{metric} {value}, should be {bound}", "{metric} {value}, 기준: {bound}"),
    "why.on_camera": ("Camera {camera}: {text}", "카메라 {camera}: {text}"),
    "why.silent": ("nothing heard since {last_seen} ({age})", "{last_seen}부터 소식이 없습니다({age})"),
    "why.not_measured": (
        "whether it sees well here isn't known: it was never measured on labelled pictures of this place",
        "라벨이 있는 이곳 사진으로 측정한 적이 없어 잘 보는지 알 수 없습니다",
    ),
    "why.new_version": (
        "whether version {version} sees well here isn't known: it was not measured here since it is in charge",
        "버전 {version}은(는) 적용된 뒤 이곳에서 측정하지 않아 잘 보는지 알 수 없습니다",
    ),
    "why.measured_long_ago": (
        "whether it still sees well isn't known: it was last measured on {time}",
        "마지막 측정이 {time}이어서 아직 잘 보는지 알 수 없습니다",
    ),
    "why.well": ("{metric} {value}, as it should be ({bound})", "{metric} {value}, 기준 충족({bound})"),
    "why.well_no_rule": ("{metric} {value}; no alert", "{metric} {value}, 경보 없음"),
    "why.pending": (
        "being watched: {metric} {value}, should be {bound}",
        "지켜보는 중: {metric} {value}, 기준: {bound}",
    ),
    "why.recovering": (
        "better since {time}; watched until that is certain",
        "{time}부터 나아졌고, 확실해질 때까지 지켜봅니다",
    ),
    "why.idle": (
        "could do more: {metric} {value}, at least {limit} is usual",
        "여유 있음: {metric} {value}, 보통 {limit} 이상",
    ),
    "why.acked": ("{actor} knows of it: {reason}", "{actor} 확인: {reason}"),
    "bound.least": ("at least {limit}", "{limit} 이상"),
    "bound.most": ("at most {limit}", "{limit} 이하"),
    "since": ("since {time} ({age})", "{time}부터({age})"),
    # --- figures
    "metric.map50": ("accuracy (mAP50)", "정확도(mAP50)"),
    "metric.map50_95": ("accuracy (mAP50-95)", "정확도(mAP50-95)"),
    "metric.precision": ("share of finds that are right", "검출 중 맞은 비율(precision)"),
    "metric.recall": ("share of objects that are found", "물체 중 찾은 비율(recall)"),
    "metric.latency_ms_p50": ("usual time for a picture", "사진 한 장의 보통 처리 시간"),
    "metric.latency_ms_p95": ("time for a picture (p95)", "사진 한 장의 처리 시간(p95)"),
    "metric.model_size_mb": ("size of the file", "파일 크기"),
    "metric.gpu_util": ("load of the graphics card", "그래픽카드 사용률"),
    "metric.cpu_util": ("load of the processor", "프로세서 사용률"),
    "metric.throughput_fps": ("pictures a second", "초당 사진 수"),
    "trend.caption": ("{metric}, {span}", "{metric}, {span}"),
    "trend.line": ("line: {bound}", "선: {bound}"),
    # --- advice
    "advice.title": ("Advised", "권고"),
    "advice.none": ("nothing to do", "할 일 없음"),
    "advice.not_yet": (
        "none yet; `guardianflow optimize` looks for what may help",
        "아직 없습니다. `guardianflow optimize`가 방법을 찾습니다",
    ),
    "advice.silent": (
        "see whether the camera has power and network, and whether the program that serves the model still runs",
        "카메라의 전원과 네트워크, 모델을 돌리는 프로그램이 살아 있는지 확인하십시오",
    ),
    "advice.measure": (
        "measure it on labelled pictures of this place (docs/SITES.md says how)",
        "라벨이 있는 이곳 사진으로 측정하십시오(방법: docs/SITES.md)",
    ),
    "advice.person": ("somebody who knows the model must look", "모델을 아는 사람이 살펴봐야 합니다"),
    "advice.open": ("{action}", "{action}"),
    "advice.applying": ("being done now: {action}", "지금 진행 중: {action}"),
    "advice.waiting": (
        "a new version is ready and was found good; somebody who may promote must decide",
        "새 버전이 준비되어 검증을 통과했습니다. 적용 권한이 있는 사람이 결정해야 합니다",
    ),
    "advice.failed": ("was tried and did not work: {action}", "시도했으나 실패: {action}"),
    "advice.refused": (
        (
            "{action}: was tried, and the new version was no better, so the old one stays; "
            "somebody who knows the model must look"
        ),
        "{action}: 시도했으나 새 버전이 더 낫지 않아 그대로 둡니다. 모델을 아는 사람이 살펴봐야 합니다",
    ),
    "advice.dismissed": ("{action}: {actor} said no: {reason}", "{action}: {actor} 거절: {reason}"),
    "advice.decide": ("decide on the page “{page}”", "“{page}” 페이지에서 결정하십시오"),
    "action.retrain": (
        "train the model again on its pictures as they are now",
        "현재의 사진으로 모델을 다시 학습시키기",
    ),
    "action.quantize": ("make the model smaller and faster (int8)", "모델을 더 작고 빠르게 만들기(int8)"),
    "action.raise_batch": (
        "try giving the model several pictures at once",
        "모델에 사진을 여러 장씩 한꺼번에 주어 보기",
    ),
    "action.roll_back": ("go back to the version before this one", "바로 전 버전으로 되돌리기"),
    "action.other": ("{name}", "{name}"),
    # --- cameras and models
    "camera.title": ("Cameras", "카메라"),
    "camera.site": ("the whole site", "현장 전체"),
    "model.in_charge": ("model {model}, version {version} in charge", "모델 {model}, 적용 버전 {version}"),
    "model.unregistered": ("model {model}, no version in charge", "모델 {model}, 적용된 버전 없음"),
    "nowhere.title": ("Alerts that name no site", "현장 이름이 없는 경보"),
    # --- who decides
    "key.title": ("Key", "키"),
    "key.hint": (
        "Everybody may read this page. To decide something, type your key here.",
        "누구나 이 페이지를 읽을 수 있습니다. 결정하려면 키를 입력하십시오.",
    ),
    "key.unknown": ("This key opens nothing.", "사용할 수 없는 키입니다."),
    "key.of": ("{name}, {role}", "{name}, {role}"),
    "key.owner": (
        "This notebook is yours: what you decide here is entered under the name {name}.",
        "본인의 노트북이므로 여기서 내린 결정은 {name} 이름으로 기록됩니다.",
    ),
    "key.needed": (
        "Type a key first: deciding needs the role operator, putting a version in charge the role promoter.",
        "먼저 키를 입력하십시오. 결정에는 operator, 버전 적용에는 promoter 역할이 필요합니다.",
    ),
    # --- the registry page
    "registry.none": (
        "There is no model {name} yet; `guardianflow register NAME --run RUN_ID` makes one.",
        "모델 {name}이(가) 아직 없습니다. `guardianflow register NAME --run RUN_ID`로 등록합니다.",
    ),
    "registry.empty": (
        "No model is registered yet; `guardianflow register NAME --run RUN_ID` makes one.",
        "등록된 모델이 아직 없습니다. `guardianflow register NAME --run RUN_ID`로 등록합니다.",
    ),
    "registry.in_charge": ("{name}: version {version} is in charge.", "{name}: 버전 {version}이(가) 적용 중입니다."),
    "registry.nobody": ("{name}: no version is in charge yet.", "{name}: 아직 적용된 버전이 없습니다."),
    "registry.waits": ("Version {version} waits for a decision.", "버전 {version}이(가) 결정을 기다립니다."),
    "registry.versions.one": ("{count} version", "버전 {count}개"),
    "registry.versions.many": ("{count} versions", "버전 {count}개"),
    "registry.version": ("Version {version}", "버전 {version}"),
    "registry.rejected": ("rejected", "부적합"),
    "registry.made": (
        "{how} · from run {run} · registered {time} by {by}",
        "{how} · 실행 {run} · {time} {by} 등록",
    ),
    "registry.made_from": ("made from {version}", "{version}에서 만듦"),
    "registry.timed_on": ("timed on {device}", "측정 장치 {device}"),
    "registry.gate": ("What the gate says", "검증 결과"),
    "registry.asking": ("The gate is being asked …", "검증하는 중입니다 …"),
    "registry.gate_off": ("The gate is off: nothing is judged.", "검증이 꺼져 있어 판정하지 않습니다."),
    "registry.is_in_charge": (
        "This version is in charge already; nothing would change.",
        "이미 적용 중인 버전이므로 바뀔 것이 없습니다.",
    ),
    "registry.may": ("Version {version} may be promoted.", "버전 {version}을(를) 적용할 수 있습니다."),
    "registry.refused": ("Version {version} is refused.", "버전 {version}은(는) 거부되었습니다."),
    "registry.against": ("Judged against version {version}, which is in charge.", "적용 중인 버전 {version}과 비교."),
    "registry.why": ("why? (for the ledger)", "이유(원장에 기록)"),
    "registry.say_why": (
        "Say why first: the ledger keeps the reason.",
        "먼저 이유를 적으십시오. 이유는 원장에 남습니다.",
    ),
    "registry.promote": ("Promote version {version}", "버전 {version} 적용"),
    "registry.force": ("Promote {version} against the gate", "검증을 무시하고 {version} 적용"),
    "registry.roll_back": ("Roll back to version {version}", "버전 {version}(으)로 되돌리기"),
    "registry.working": ("Being checked and moved …", "확인하고 옮기는 중입니다 …"),
    "registry.promoted": (
        "Version {version} of {name} is in charge now, put there by {actor}.",
        "{actor} 결정으로 {name}의 버전 {version}이(가) 적용되었습니다.",
    ),
    "registry.rolled_back": (
        "Version {version} of {name} is back in charge, put there by {actor}.",
        "{actor} 결정으로 {name}이(가) 버전 {version}(으)로 되돌아갔습니다.",
    ),
    "registry.ledger": ("The ledger's last moves", "원장의 최근 기록"),
    "registry.by": ("{actor}, {time} ({age})", "{actor}, {time}({age})"),
    "registry.was_forced": ("against the gate", "검증 무시"),
    "alias.champion": ("in charge", "적용 중"),
    "alias.candidate": ("candidate", "후보"),
    "alias.rollback": ("way back", "되돌릴 버전"),
    "check.passed": ("passed", "통과"),
    "check.refused": ("refused", "거부"),
    "check.not_compared": ("not compared", "비교하지 않음"),
    "move.register": ("Version {version} registered", "버전 {version} 등록"),
    "move.promote": ("Version {version} promoted", "버전 {version} 적용"),
    "move.rollback": ("Rolled back to version {version}", "버전 {version}(으)로 되돌림"),
    "move.reject": ("Version {version} rejected", "버전 {version} 부적합 판정"),
    "move.delete": ("Version {version} deleted", "버전 {version} 삭제"),
    # --- runs
    "run.title": ("{kind}: {experiment}", "{kind}: {experiment}"),
    "run.running.one": ("{count} run goes on.", "실행 {count}건 진행 중."),
    "run.running.many": ("{count} runs go on.", "실행 {count}건 진행 중."),
    "run.none": ("Nothing runs at the moment.", "지금 진행 중인 실행이 없습니다."),
    "run.lost": ("process lost", "프로세스 없음"),
    "run.running": ("running", "진행 중"),
    "run.finished": ("finished", "완료"),
    "run.failed": ("failed", "실패"),
    "run.killed": ("stopped", "중단됨"),
    "run.reap": (
        "Its process died without ending it; `guardianflow runs reap` puts its status right.",
        "프로세스가 종료 기록 없이 사라졌습니다. `guardianflow runs reap`으로 상태를 바로잡으십시오.",
    ),
    "run.facts": (
        "run {run} · {actor} on {host} · since {time} · {age}",
        "실행 {run} · {actor}, {host} · {time}부터 · {age}",
    ),
    "run.progress": ("{unit} {done} of {total}", "{unit} {total} 중 {done}"),
    "run.curve": ("over {last} epochs, from 0 to 1", "에폭 {last}까지, 0에서 1까지"),
    "run.log": ("The log's last lines", "로그의 마지막 줄"),
    "run.cancel": ("Cancel …", "취소 …"),
    "run.sure": ("End this run now? What it has done so far is kept.", "지금 끝낼까요? 지금까지의 결과는 남습니다."),
    "run.really": ("End it", "끝내기"),
    "run.go_on": ("Let it run", "계속하기"),
    "run.cancelling": (
        "Run {run} was told to end; it does so within seconds.",
        "실행 {run}에 종료를 알렸습니다. 몇 초 안에 끝납니다.",
    ),
    # --- the comparison page
    "compare.title": ("Which model is better, and by how much", "어느 모델이 얼마나 더 나은가"),
    "compare.two": ("Choose two models, or three.", "모델을 두 개나 세 개 고르십시오."),
    "compare.nothing": ("– none –", "– 없음 –"),
    "compare.working": ("Being compared …", "비교하는 중입니다 …"),
    # --- the optimizer page
    "optimizer.title": ("Alerts and advice", "경보와 권고"),
    "optimizer.alerts": ("Alerts", "경보"),
    "optimizer.no_alert": ("No alert is open.", "열린 경보가 없습니다."),
    "optimizer.firing.one": ("{count} alert fires.", "경보 {count}건."),
    "optimizer.firing.many": ("{count} alerts fire.", "경보 {count}건."),
    "optimizer.to_decide.one": ("{count} recommendation waits for a decision.", "결정할 권고 {count}건."),
    "optimizer.to_decide.many": ("{count} recommendations wait for a decision.", "결정할 권고 {count}건."),
    "optimizer.past": ("Past alerts", "지난 경보"),
    "optimizer.advice": ("Advice to decide on", "결정할 권고"),
    "optimizer.no_advice": ("Nothing waits for a decision.", "결정을 기다리는 권고가 없습니다."),
    "optimizer.done": ("What was done, and whether it helped", "한 일과 그 효과"),
    "optimizer.nothing_done": ("Nothing was done yet.", "아직 한 일이 없습니다."),
    "optimizer.apply": ("Apply", "적용"),
    "optimizer.put_in_charge": ("Put in charge", "버전 적용"),
    "optimizer.go_on": ("Try again", "다시 시도"),
    "optimizer.dismiss": ("Dismiss", "거절"),
    "optimizer.reason": ("why not?", "거절 이유"),
    "optimizer.started": (
        "Recommendation {id} is being applied for {name}.",
        "권고 {id}을(를) {name} 이름으로 적용하고 있습니다.",
    ),
    "optimizer.dismissed": (
        "Recommendation {id} was dismissed for {name}.",
        "권고 {id}을(를) {name} 이름으로 거절했습니다.",
    ),
    "optimizer.already": ("Recommendation {id} is {state} already.", "권고 {id}의 상태: {state}."),
    "optimizer.because": ("Because", "이유"),
    "optimizer.evidence": ("Evidence", "근거"),
    "optimizer.caveat": ("But", "주의"),
    "optimizer.cost": ("Cost", "비용"),
    "optimizer.cost_known": ("about {span}, as long as run {run} took", "약 {span}(실행 {run} 기준)"),
    "optimizer.cost_unknown": ("not known: nothing like it ran here yet", "알 수 없음: 비슷한 실행이 아직 없습니다"),
    "optimizer.scenario": ("The exact scenario", "정확한 시나리오"),
    "optimizer.figures_behind.one": ("{count} figure", "수치 {count}개"),
    "optimizer.figures_behind.many": ("{count} figures", "수치 {count}개"),
    "optimizer.alert_of": ("the alert stands on {figures}", "경보 근거: {figures}"),
    "fit.changed": (
        "its pictures have changed since it was trained; the same training may learn what it lacks",
        "학습 뒤로 사진이 바뀌었습니다. 같은 학습으로 부족한 점을 배울 수 있습니다",
    ),
    "fit.grown": (
        "it was trained on {then} pictures, and there are {now} now; the same training may learn what it lacks",
        "학습 때 사진 {then}장, 지금 {now}장입니다. 같은 학습으로 부족한 점을 배울 수 있습니다",
    ),
    "fit.unchanged": (
        "its pictures are the same as when it was trained, so little is to be expected",
        "학습 때와 사진이 같아 큰 효과는 기대하기 어렵습니다",
    ),
    "fit.quantize": (
        "version {champion} runs at {precision}; at int8 it is smaller and mostly faster",
        "버전 {champion}은(는) {precision}로 돌고 있습니다. int8이면 더 작고 대개 더 빠릅니다",
    ),
    "fit.raise_batch": (
        "the graphics card waits; batches of {sizes} pictures may serve more of them a second",
        "그래픽카드가 놀고 있습니다. {sizes}장씩 묶으면 초당 더 많이 처리할 수 있습니다",
    ),
    "fit.roll_back": (
        "it began after version {champion} was put in charge; with version {rollback} it was {before} ({figures})",
        "버전 {champion} 적용 뒤에 시작되었습니다. 버전 {rollback}에서는 {before}였습니다({figures})",
    ),
    "alert.pending": ("watched", "지켜보는 중"),
    "alert.firing": ("firing", "경보"),
    "alert.resolved": ("over", "종료"),
    "ended.recovered": ("it recovered", "회복됨"),
    "ended.no_figures": ("figures stopped coming", "수치가 끊김"),
    "ended.rule_removed": ("its rule was removed", "규칙이 삭제됨"),
    "ended.new_champion": ("another version was put in charge", "다른 버전이 적용됨"),
    "done.applying": ("being done", "진행 중"),
    "done.applied": ("done", "완료"),
    "done.refused": ("refused by the gate", "검증에서 거부됨"),
    "done.failed": ("failed", "실패"),
    "done.waiting": ("waits for a promoter", "승인 대기"),
    "done.dismissed": ("dismissed", "거절됨"),
    "done.withdrawn": ("withdrawn", "취소됨"),
    "done.promoted": (
        "version {version} is in charge now, instead of version {before}",
        "버전 {before} 대신 버전 {version}이(가) 적용되었습니다",
    ),
    "done.by": ("{actor}, {time}", "{actor}, {time}"),
    "effect.helped": ("It helped", "효과 있음"),
    "effect.better": ("Better, but not yet as it should be", "나아졌으나 아직 기준에 못 미침"),
    "effect.no_help": ("It did not help", "효과 없음"),
    "effect.too_few": ("Can't be said yet", "아직 알 수 없음"),
    "effect.figures": (
        "{metric} before {before} ({before_count}), after {after} ({after_count})",
        "{metric} 이전 {before}({before_count}), 이후 {after}({after_count})",
    ),
    "effect.so_far": (
        "{metric} before {before} ({before_count}); since then {after_count} of at least {needed}",
        "{metric} 이전 {before}({before_count}); 이후 {after_count}, 최소 {needed}개 필요",
    ),
    # --- the start page
    "page.start": ("Start", "시작"),
    "page.trends": ("Trends", "추이"),
    "start.no_models": ("No model is registered yet.", "아직 등록된 모델이 없습니다."),
    "start.more_models": ("; {count} more", " 외 {count}개"),
    "start.fleet": (
        "Site by site: is the model well, why, since when, and what to do.",
        "현장별 상태와 이유, 시작 시점, 할 일.",
    ),
    "start.optimizer": (
        "What is wrong, what is advised, what was done and whether it helped.",
        "문제와 권고, 한 일과 그 효과.",
    ),
    "start.trends": (
        "How accuracy, speed and load went over days and weeks.",
        "정확도, 속도, 사용률의 변화(며칠에서 몇 달).",
    ),
    "start.registry": (
        "The versions of each model, and which one is in charge.",
        "모델마다 어떤 버전이 있고 어느 버전이 적용 중인지.",
    ),
    "start.compare": (
        "Two or three models side by side: which is better, and by how much.",
        "모델 두세 개를 나란히 비교: 어느 것이 얼마나 나은지.",
    ),
    # --- trends
    "model.alone": ("model {model}", "모델 {model}"),
    "trends.none": ("{metric}: nothing was measured in {span}.", "{metric}: {span} 동안 측정값이 없습니다."),
    "trends.none_next": ("Choose a longer time, or another figure.", "더 긴 기간이나 다른 수치를 고르십시오."),
    "trends.still": ("{metric}: nothing moved in {span}", "{metric}: {span} 동안 큰 변화가 없습니다"),
    "trends.all_few": (
        "{metric}: too few figures in {span} to say how it goes.",
        "{metric}: {span} 동안 수치가 적어 추이를 알 수 없습니다.",
    ),
    "trends.moved.one": (
        "{metric}: {count} of {total} places moved in {span}",
        "{metric}: {span} 동안 {total}곳 중 {count}곳에서 변했습니다",
    ),
    "trends.moved.many": (
        "{metric}: {count} of {total} places moved in {span}",
        "{metric}: {span} 동안 {total}곳 중 {count}곳에서 변했습니다",
    ),
    "trends.rest": ("; nothing else moved", "; 나머지는 그대로"),
    "trends.unknown.one": ("; too few figures at {count} place", "; {count}곳은 수치가 적음"),
    "trends.unknown.many": ("; too few figures at {count} places", "; {count}곳은 수치가 적음"),
    "trends.rose": ("{place}: {metric} rose from {before} to {after}", "{place}: {metric} {before}에서 {after}로 상승"),
    "trends.fell": ("{place}: {metric} fell from {before} to {after}", "{place}: {metric} {before}에서 {after}로 하락"),
    "trends.up": ("rose from {before} to {after}", "{before}에서 {after}로 상승"),
    "trends.down": ("fell from {before} to {after}", "{before}에서 {after}로 하락"),
    "trends.same": ("about the same, {value}", "큰 변화 없음, {value}"),
    "trends.few": ("too few figures to say how it goes", "수치가 적어 추이를 알 수 없음"),
    "trends.unwell": ("worse", "나빠짐"),
    "trends.well": ("better", "나아짐"),
    "trends.note": ("moved", "변함"),
    "trends.line": ("The dashed line: {bound}.", "점선: {bound}."),
    "trends.more": ("{count} more places; choose a site.", "{count}곳이 더 있습니다. 현장을 고르십시오."),
    "trends.all_models": ("all models", "모든 모델"),
    "trends.all_sites": ("all sites", "모든 현장"),
    # --- times
    "time.seconds.one": ("{count} second", "{count}초"),
    "time.seconds.many": ("{count} seconds", "{count}초"),
    "time.minutes.one": ("{count} minute", "{count}분"),
    "time.minutes.many": ("{count} minutes", "{count}분"),
    "time.hours.one": ("{count} hour", "{count}시간"),
    "time.hours.many": ("{count} hours", "{count}시간"),
    "time.days.one": ("{count} day", "{count}일"),
    "time.days.many": ("{count} days", "{count}일"),
    "time.ago": ("{span} ago", "{span} 전"),
    "time.last": ("the last {span}", "최근 {span}"),
    "time.now": ("just now", "방금"),
}
"""Key → English, Korean; both with the same places."""

_UNITS = (("days", 86_400), ("hours", 3_600), ("minutes", 60), ("seconds", 1))


def say(key: str, language: str, **values: object) -> str:
    """A sentence in a language.

    Args:
        key: One of :data:`MESSAGES`.
        language: ``"en"`` or ``"ko"``.
        values: For its places, as text.

    Raises:
        KeyError: No such message, or a place without a value.
    """
    return MESSAGES[key][LANGUAGES.index(language)].format(**values)


def counted(key: str, count: int, language: str, **values: object) -> str:
    """A sentence about a number of things: ``KEY.one`` or ``KEY.many``."""
    return say(f"{key}.{'one' if count == 1 else 'many'}", language, count=count, **values)


def language_of(setting: str, accepted: str = "") -> str:
    """The language of a page.

    Args:
        setting: ``"en"``, ``"ko"``, or empty: what the browser asks for.
        accepted: The browser's ``Accept-Language``, such as ``ko-KR,ko;q=0.9,en;q=0.8``.

    Returns:
        The first of ours by the browser's own order; English where it asks for none of them.
    """
    if setting:
        return setting
    wishes = []
    for place, part in enumerate(accepted[:1000].split(",")):
        name, _, weight = part.partition(";")
        language = name.strip().lower().partition("-")[0]
        if language in LANGUAGES:
            wishes.append((-_weight(weight), place, language))
    return min(wishes)[2] if wishes else LANGUAGES[0]


def _weight(text: str) -> float:
    try:
        return float(text.strip().removeprefix("q="))
    except ValueError:
        return 1.0


def span(seconds: float, language: str) -> str:
    """A stretch of time in its largest unit: ``"3 days"``."""
    for unit, size in _UNITS:
        count = int(seconds // size)
        if count >= 2 or (count == 1 and unit != "days"):
            return counted(f"time.{unit}", count, language)
    return counted("time.seconds", 0, language)


def ago(then: datetime, now: datetime, language: str) -> str:
    """How long ago something was."""
    seconds = (now - then).total_seconds()
    return say("time.now", language) if seconds < 60 else say("time.ago", language, span=span(seconds, language))


def moment(time: datetime) -> str:
    """A moment as every page shows it, in UTC."""
    return f"{time:%Y-%m-%d %H:%M} UTC"
