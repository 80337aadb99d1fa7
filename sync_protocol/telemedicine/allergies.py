"""Which drugs somebody with an allergy reacts to: classes of drugs, and the words in which allergies are written down.

An allergy is free text ("Penicillin", "sulfa", "दर्द की दवा", "rash after Brufen"). What it names is looked for: a class
by one of its words, or a drug, which stands for its classes and for itself. A word that no table has is met by the same
word in a prescription. Words are compared as in `naming`: folded, and with one wrong letter in a long one. A class may
*cross* to another: not the same, near enough that a doctor is asked. Classes and crossings follow the WHO Model Formulary
2008 (2.1 and 6.2, on allergy to penicillins, cephalosporins and sulfonamides), and for aspirin the class of
cyclo-oxygenase inhibitors.

What it does not understand it does not guess beyond that: the case page shows every allergy as it was written.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Final

from sync_protocol.telemedicine.naming import MISSPELT_CHARS, Recognised, alike, fold, read, recognise, words_of

CLASSES: Final = """
penicillins: amoxicillin, ampicillin, cloxacillin, dicloxacillin, penicillin v, benzathine penicillin, benzylpenicillin,
 procaine penicillin, piperacillin
cephalosporins: cefalexin, cefadroxil, cefixime, cefpodoxime, cefuroxime, cefradine, cefaclor, cefazolin, cefotaxime,
 ceftriaxone, ceftazidime, cefoperazone, cefepime
carbapenems: meropenem, imipenem, ertapenem, faropenem
sulfonamides: co trimoxazole, sulfamethoxazole, sulfadiazine, silver sulfadiazine, sulfacetamide, sulfadoxine,
 sulfasalazine
sulfones: dapsone
nsaids: ibuprofen, diclofenac, aceclofenac, naproxen, mefenamic acid, piroxicam, etoricoxib, indometacin, nimesulide,
 ketoprofen, celecoxib, aspirin, ketorolac, flurbiprofen, nepafenac, salicylic acid
opioids: morphine, codeine, pethidine, fentanyl, tramadol, tapentadol, pentazocine, buprenorphine, butorphanol, nalbuphine,
 methadone, hydrocodone, oxycodone, dihydrocodeine, dextropropoxyphene, diphenoxylate, pholcodine
morphinans: dextromethorphan
macrolides: azithromycin, erythromycin, clarithromycin, roxithromycin
quinolones: ciprofloxacin, ofloxacin, norfloxacin, levofloxacin, moxifloxacin
tetracyclines: tetracycline, doxycycline, minocycline
aminoglycosides: gentamicin, amikacin, netilmicin, streptomycin, kanamycin, tobramycin, neomycin, framycetin
nitroimidazoles: metronidazole, tinidazole, ornidazole, secnidazole
azoles: clotrimazole, miconazole, ketoconazole, sertaconazole, luliconazole, fluconazole, itraconazole, voriconazole,
 posaconazole
ace inhibitors: enalapril, lisinopril, ramipril, captopril, perindopril
statins: atorvastatin, rosuvastatin, simvastatin
sulfonylureas: glibenclamide, glimepiride, gliclazide, glipizide, tolbutamide
aromatic antiepileptics: carbamazepine, oxcarbazepine, phenytoin, phenobarbital, lamotrigine
quinoline antimalarials: chloroquine, hydroxychloroquine, quinine, mefloquine, primaquine
local anaesthetics: lidocaine, bupivacaine, prilocaine, proparacaine
iodine: povidone iodine
phenothiazines: chlorpromazine, prochlorperazine, promethazine, fluphenazine, trifluoperazine
antihistamines: cetirizine, levocetirizine, hydroxyzine
iron preparations: iron, iron sucrose, ferric carboxymaltose, iron dextran
"""

CROSSES: Final[Mapping[str, tuple[str, ...]]] = {
    "penicillins": ("cephalosporins", "carbapenems"),
    "cephalosporins": ("penicillins", "carbapenems"),
    "carbapenems": ("penicillins", "cephalosporins"),
    "sulfonamides": ("sulfones",),
    "sulfones": ("sulfonamides",),
    "opioids": ("morphinans",),
}

WORDS: Final = """
penicillins: penicillin, pencillin, pcn, betalactam, beta lactam, पेनिसिलिन, पेनिसिलीन, पेनसिलिन, पैनिसिलिन, पेनिसीलिन,
 पेन्सिलिन, पेंसिलिन, पेनिसलिन, पेनिसिलन
cephalosporins: cephalosporin, cefalosporin, cephalosporine, सेफालोस्पोरिन, सिफालोस्पोरिन, सेफैलोस्पोरिन
carbapenems: carbapenem
sulfonamides: sulfonamide, sulphonamide, sulfa, sulpha, sulfas, sulfur, sulphur, सल्फा, सल्फर, सल्फोनामाइड, सल्फ़ा
sulfones: sulfone, sulphone
nsaids: nsaid, pain killer, painkiller, painkillers, pain killers, analgesic, analgesics, anti inflammatory, pain medicine,
 pain medicines, pain medication, pain medications, pain meds, pain drug, pain drugs, pain tablet, pain tablets, pain pill,
 pain pills, pain relief, pain reliever, pain relievers, pain injection, pain injections, dard ki dawa, dard ki dawai, dard
 ki dava, dard ki goli, dard ka injection, dard ki sui, dard nivarak, दर्द निवारक, दर्दनिवारक, दर्द की दवा, दर्द की दवाई,
 दर्द की दवाएं, दर्द की दवाएँ, दर्द की दवाइयां, दर्द की दवाइयाँ, दर्द वाली दवा, दर्द वाली गोली, दर्द की गोली, दर्द की गोलियां,
 दर्द की गोलियाँ, दर्द का इंजेक्शन, दर्द की सुई, दर्द की टैबलेट, पेनकिलर, पेन किलर
opioids: opioid, opiate, opiates, ओपिओइड
macrolides: macrolide, मैक्रोलाइड; quinolones: quinolone, fluoroquinolone, fluoroquinolones, floxacin, क्विनोलोन
tetracyclines: टेट्रासाइक्लिन; aminoglycosides: aminoglycoside; nitroimidazoles: nitroimidazole; azoles: azole
ace inhibitors: ace inhibitor, ace; statins: statin; sulfonylureas: sulfonylurea, sulphonylurea
aromatic antiepileptics: antiepileptic, anticonvulsant, fits medicine, seizure medicine, epilepsy medicine, mirgi ki dawa,
 मिर्गी की दवा, मिर्गी की गोली, दौरे की दवा
quinoline antimalarials: antimalarial, antimalarials, anti malarial, malaria medicine, malaria tablet, malaria tablets,
 malaria ki dawa, मलेरिया की दवा, मलेरिया की गोली
local anaesthetics: local anaesthetic, local anesthetic, anaesthetic, anaesthetics, anaesthesia, anesthesia, numbing
 injection, सुन्न करने का इंजेक्शन, सुन्न करने की सुई, सुन्न करने की दवा, एनेस्थीसिया
iodine: iodine, iodide, contrast, आयोडीन, आयोडिन; antihistamines: antihistamine; iron preparations: iron injection
phenothiazines: phenothiazine
"""

DRUGS_IN_HINDI: Final = """
aspirin: एस्पिरिन, ऐस्पिरिन, एस्प्रिन, डिस्प्रिन; paracetamol: पैरासिटामोल, पेरासिटामोल, पारासिटामोल, पैरासीटामोल, क्रोसिन
ibuprofen: आइबुप्रोफेन, इबुप्रोफेन, ब्रूफेन, ब्रुफेन, कॉम्बिफ्लेम; diclofenac: डाइक्लोफेनाक, डिक्लोफेनाक, डाइक्लोफिनेक, वोवेरान
nimesulide: निमेसुलाइड, नाइमेसुलाइड; aceclofenac: एसिक्लोफेनाक, एसेक्लोफेनाक; amoxicillin: एमोक्सिसिलिन, अमोक्सीसिलिन,
 एमोक्सिसिलीन, ऑगमेंटिन; ampicillin: एम्पिसिलिन; ciprofloxacin: सिप्रोफ्लोक्सासिन, सिप्रोफ्लोक्सेसिन; norfloxacin:
 नॉरफ्लोक्सासिन, नॉरफ्लॉक्स; metronidazole: मेट्रोनिडाजोल, फ्लैजिल, मेट्रोजिल; azithromycin: एजिथ्रोमाइसिन
co trimoxazole: सेप्ट्रान, सेप्ट्रन, कोट्राइमोक्साजोल; chloroquine: क्लोरोक्वीन, क्लोरोक्विन; doxycycline: डॉक्सीसाइक्लिन
ceftriaxone: सेफ्ट्रिएक्सोन; cefixime: सेफिक्सिम; tramadol: ट्रामाडोल; lidocaine: लिडोकेन, लिग्नोकेन, जाइलोकेन
phenytoin: फिनाइटोइन, एप्टोइन; povidone iodine: बीटाडीन; cetirizine: सिट्रीजिन, सेटिरिजिन
"""

_OF_ALLERGIES: Final = frozenset(
    "allergy allergic allergies anti antiallergic rash rashes reaction reactions itching itch swelling medicine medicines"
    " medication drug drugs dawa dawai goli unknown other others none known एलर्जी दवा दवाई गोली की का से है".split()
)
"""Words of allergies that name no drug: the same one in a prescription is no match."""


@dataclass(frozen=True, slots=True)
class Met:
    """A drug that somebody may react to. allergy: as it was written. crossing: by a class that is only near. typed: the
    drug is in no table, and named as it was typed."""

    drug: str
    allergy: str
    crossing: bool
    typed: bool = False


@dataclass(frozen=True, slots=True)
class Meant:
    """What an allergy names. written: as it was written. words: all of them, folded. near: classes that its own cross
    to."""

    written: str
    words: frozenset[str]
    drugs: frozenset[str]
    classes: frozenset[str]
    near: frozenset[str]


@cache
def _classes_of() -> Mapping[str, frozenset[str]]:
    """Generic name → its classes."""
    found: dict[str, set[str]] = {}
    for name, members in read(CLASSES):
        for member in members:
            found.setdefault(member, set()).add(name)
    return {drug: frozenset(classes) for drug, classes in found.items()}


@cache
def _phrases() -> Mapping[tuple[str, ...], tuple[tuple[str, bool], ...]]:
    """Folded words → what they name, and whether that is a class."""
    classes = [(one, name, True) for name, others in read(WORDS) for one in (name, *others)]
    hindi = [(one, name, False) for name, others in read(DRUGS_IN_HINDI) for one in others]
    found: dict[tuple[str, ...], tuple[tuple[str, bool], ...]] = {}
    for text, name, is_class in (*classes, *hindi):
        words = tuple(words_of(text))
        found[words] = (*found.get(words, ()), (name, is_class))
    return found


@cache
def _long_words() -> tuple[str, ...]:
    return tuple({word for words in _phrases() for word in words if len(word) >= MISSPELT_CHARS})


def _meant(written: str, text: str) -> Meant:
    words = words_of(text)
    named = set(recognise(text).drugs)
    classes: set[str] = set()
    for name, is_class in _named_by(words):
        (classes if is_class else named).add(name)
    for drug in named:
        classes |= _classes_of().get(drug, frozenset())
    near = {crossed for one in classes for crossed in CROSSES.get(one, ())}
    return Meant(written, frozenset(words), frozenset(named), frozenset(classes), frozenset(near))


def _named_by(written: Sequence[str]) -> Iterator[tuple[str, bool]]:
    """(what words name, whether that is a class). written: folded."""
    words = [next((known for known in _long_words() if alike(known, word)), word) for word in written]
    for length in {len(phrase) for phrase in _phrases()}:
        for at in range(len(words) - length + 1):
            yield from _phrases().get(tuple(words[at : at + length]), ())


def met(recognised: Recognised, meant: Sequence[Meant]) -> list[Met]:
    """Which drugs of a line somebody reacts to who is allergic to this. meant: of `understood`."""
    found = []
    strange = [(fold(one), one) for one in recognised.unknown]
    theirs = frozenset(name for name, is_class in _named_by([word for word, _ in strange]) if is_class)
    for allergy in meant:
        for drug in recognised.drugs:
            classes = _classes_of().get(drug, frozenset())
            if drug in allergy.drugs or classes & allergy.classes:
                found.append(Met(drug, allergy.written, crossing=False))
            elif classes & allergy.near:
                found.append(Met(drug, allergy.written, crossing=True))
        same = [
            one for word, one in strange if word not in _not_drugs() and any(alike(word, of) for of in allergy.words)
        ]
        if same or theirs & (allergy.classes | allergy.near):
            crossing = not same and not theirs & allergy.classes
            found.append(Met(" ".join(same or recognised.unknown), allergy.written, crossing, typed=True))
    return found


def _is_of(word: str, words: frozenset[str]) -> bool:
    return word not in _not_drugs() and (word in words or any(alike(word, one) for one in words))


@cache
def _not_drugs() -> frozenset[str]:
    return frozenset(map(fold, _OF_ALLERGIES))


def understood(allergies: Mapping[str, str]) -> list[Meant]:
    """What is meant by allergies: as it was written → all that is known of it, to be searched."""
    return [_meant(written, text) for written, text in allergies.items()]
